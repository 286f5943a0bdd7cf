"""What the store does for those who watch: it reads the log, and tells of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from itertools import islice
from typing import Final

from sqlalchemy import Connection

from signalpost.domain.ids import DeliveryKey
from signalpost.ports.watching import (
    ChangeFeed,
    ChangeQuery,
    Changes,
    LogPage,
    LogPosition,
    LogQuery,
)
from signalpost.store.deliveries import deliveries_of
from signalpost.store.event_log import log_end, log_from, read_log
from signalpost.store.news import News
from signalpost.store.readers import Readers
from signalpost.store.statements import AnyRow
from signalpost.store.writer import Writer, one_by_one

MOST_WAITING: Final = 10_000
"""Most deliveries that wait in a feed: about 1 MiB."""


def _pass(_: Connection, __: None) -> None:
    """Write nothing."""


_PASS = one_by_one(_pass)


class Watching:
    """Implements `EventLog` and `DeliveryChanges` with the threads of a store."""

    def __init__(self, writer: Writer, readers: Readers, news: News) -> None:
        self._writer = writer
        self._readers = readers
        self._news = news

    async def log_end(self) -> LogPosition:
        """Return the position behind all events."""
        return await self._readers.run(log_end)

    async def log_from(self, start: datetime) -> LogPosition:
        """Return the position before the first event published at or after a time."""
        return await self._readers.run(log_from, start)

    async def read_log(
        self, query: LogQuery, *, after: LogPosition, limit: int, max_bytes: int
    ) -> LogPage:
        """Read the next events. Raises LogPruned."""
        return await self._readers.run(
            read_log, query, after=after, limit=limit, max_bytes=max_bytes
        )

    def log_hints(self) -> AbstractContextManager[asyncio.Event]:
        """Set the event whenever events were accepted."""
        return self._news.hints()

    @asynccontextmanager
    async def watch_deliveries(self, query: ChangeQuery) -> AsyncIterator[ChangeFeed]:
        """Tell of deliveries that change from now on."""
        feed = _Feed(self._readers, query)
        with self._news.listening(feed.hear):
            # A transaction that is under way may not know yet that somebody listens.
            await self._writer.submit(_PASS, None)
            yield feed


class _Feed:
    """The keys of deliveries that changed and were not taken yet, the oldest change first."""

    def __init__(self, readers: Readers, query: ChangeQuery) -> None:
        self._readers = readers
        self._query = query
        self._waiting: dict[DeliveryKey, None] = {}
        self._skipped = 0
        self._filled = asyncio.Event()

    def hear(self, rows: Sequence[AnyRow]) -> None:
        """Keep what the query asks for, as much as there is room for."""
        for row in rows:
            if self._asks_for(row):
                self._waiting.setdefault(row.id)
        excess = len(self._waiting) - MOST_WAITING
        if excess > 0:
            self._skipped += excess
            for key in list(islice(self._waiting, excess)):
                del self._waiting[key]
        if self._waiting:
            self._filled.set()

    def _asks_for(self, row: AnyRow) -> bool:
        query = self._query
        return (
            (query.tenant_id is None or row.tenant_id == query.tenant_id)
            and (query.subscription_id is None or row.subscription_id == query.subscription_id)
            and (not query.states or row.state in query.states)
        )

    async def wait(self) -> None:
        """Return once there is something to take."""
        await self._filled.wait()

    async def take(self, *, limit: int) -> Changes:
        """Take the deliveries that wait for longest, as they are now."""
        keys = list(islice(self._waiting, limit))
        for key in keys:
            del self._waiting[key]
        if not self._waiting:
            self._filled.clear()
        skipped, self._skipped = self._skipped, 0
        found = await self._readers.run(deliveries_of, keys) if keys else ()
        states = self._query.states
        return Changes([one for one in found if not states or one.state in states], skipped)
