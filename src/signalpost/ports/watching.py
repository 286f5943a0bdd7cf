"""What those who watch ask of the store: the log of events, and changes of deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import NewType, Protocol

from signalpost.domain.delivery import Delivery, DeliveryState
from signalpost.domain.event import Event
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import SubscriptionId, TenantId

LogPosition = NewType("LogPosition", str)
"""A place in the log of all events, between two of them. Only the store can read it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """Which events of the log to read; `tenant_id` None means those of all tenants."""

    tenant_id: TenantId | None
    filter: EventFilter = EventFilter()


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event, and the position behind it."""

    event: Event
    position: LogPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPage:
    """The next events that were asked for, in the order in which they were accepted.

    `position` is where to go on: behind the last event that was looked at. `more` says that
    there may be more events behind it already; a page without events may have `more`.
    """

    events: Sequence[LoggedEvent]
    position: LogPosition
    more: bool


class LogPruned(Exception):
    """Events behind the position may be gone; from `oldest` on, all are there."""

    def __init__(self, oldest: LogPosition) -> None:
        self.oldest = oldest
        super().__init__("events behind the position may be gone")


class EventLog(Protocol):
    """All events, in the order in which they were accepted.

    What is read never changes: no event will ever be found before a position that a page
    ended with. So reading on from there, whenever and wherever, loses none and repeats none.
    """

    async def log_end(self) -> LogPosition:
        """Return the position behind all events that are stored now."""
        ...

    async def log_from(self, start: datetime) -> LogPosition:
        """Return the position before the first event published at or after `start`.

        Where such events may be gone, it is the oldest one from which on all are there.
        """
        ...

    async def read_log(
        self, query: LogQuery, *, after: LogPosition, limit: int, max_bytes: int
    ) -> LogPage:
        """Read at most `limit` events, and about `max_bytes`, behind a position.

        A bounded number of events is looked at, so a page may be short, or empty. Raises
        LogPruned.
        """
        ...

    def log_hints(self) -> AbstractContextManager[asyncio.Event]:
        """Set the event whenever events were accepted. A hint that is lost costs one rescan."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeQuery:
    """Whose changes to tell; `tenant_id` None means all tenants, no states mean all."""

    tenant_id: TenantId | None
    subscription_id: SubscriptionId | None = None
    states: frozenset[DeliveryState] = frozenset()


@dataclass(frozen=True, slots=True)
class Changes:
    """Deliveries as they are now, each with its last attempt only.

    `skipped` counts the changes that were left out before them.
    """

    deliveries: Sequence[Delivery]
    skipped: int


class ChangeFeed(Protocol):
    """Changes of deliveries that wait to be taken, a bounded number of them."""

    async def wait(self) -> None:
        """Return once there is something to take. May be cancelled at any time."""
        ...

    async def take(self, *, limit: int) -> Changes:
        """Take up to `limit` deliveries that changed, the one that waits for longest first."""
        ...


class DeliveryChanges(Protocol):
    """Tells of deliveries that changed."""

    def watch_deliveries(self, query: ChangeQuery) -> AbstractAsyncContextManager[ChangeFeed]:
        """Tell of every attempt recorded, and every change of a state, from now on.

        A delivery that changes again before it is taken is told once. Where more changed than
        a feed keeps, the oldest are skipped.
        """
        ...
