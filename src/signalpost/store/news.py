"""Tells what transactions did, once they are committed, to those who listen.

Verbs note it while they write; what is rolled back is forgotten. Without listeners, noting is
all it costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, select

from signalpost.store.statements import AnyRow, Keyed, Values
from signalpost.store.tables import deliveries, subscriptions

_KEY: Final = "signalpost news"

_NAMES = Keyed(
    lambda keys: (
        select(
            deliveries.c.id,
            deliveries.c.tenant_id,
            deliveries.c.state,
            subscriptions.c.subscription_id,
        )
        .join(subscriptions, subscriptions.c.lane_id == deliveries.c.lane_id)
        .where(deliveries.c.id.in_(keys))
    )
)

Listener = Callable[[Sequence[AnyRow]], None]
"""Is told, in the event loop, which deliveries changed: `id`, names, and `state`."""


def note_accepted(conn: Connection) -> None:
    """Note that the transaction stores events."""
    if (news := conn.info.get(_KEY)) is not None:
        news.accepted = True


def note_changed(conn: Connection, keys: Iterable[int]) -> None:
    """Note that the transaction records attempts of these deliveries, or changes their states."""
    if (news := conn.info.get(_KEY)) is not None and news.has_listeners:
        news.changed.extend(keys)


class Changing(Keyed):
    """A statement that changes the states of deliveries of these keys, and notes it."""

    def execute(self, conn: Connection, keys: Sequence[Any], *, values: Values = ()) -> None:
        """Execute it for these keys."""
        super().execute(conn, keys, values=values)
        note_changed(conn, keys)


class News:
    """What the current transaction of the writer did, and who wants to hear of it.

    Created, and listened to, in the event loop; everything else is called by the writer.
    """

    def __init__(self) -> None:
        self.accepted = False
        self.changed: list[int] = []
        self._loop = asyncio.get_running_loop()
        self._named: Sequence[AnyRow] = ()
        # Replaced as a whole, for two threads look at them.
        self._hints: frozenset[asyncio.Event] = frozenset()
        self._listeners: frozenset[Listener] = frozenset()

    @property
    def has_listeners(self) -> bool:
        """Tell whether anybody wants to hear of deliveries."""
        return bool(self._listeners)

    @contextmanager
    def hints(self) -> Iterator[asyncio.Event]:
        """Set the event whenever events were accepted."""
        hint = asyncio.Event()
        self._hints |= {hint}
        try:
            yield hint
        finally:
            self._hints -= {hint}

    @contextmanager
    def listening(self, listener: Listener) -> Iterator[None]:
        """Tell of changed deliveries, from the next transaction that begins."""
        self._listeners |= {listener}
        try:
            yield
        finally:
            self._listeners -= {listener}

    def attach(self, conn: Connection) -> None:
        """Take notes of the transactions of this connection."""
        conn.info[_KEY] = self

    def before_commit(self, conn: Connection) -> None:
        """Find out whose the changed deliveries are, if anybody wants to know."""
        if self.changed:
            self._named = list(_NAMES.fetch(conn, list(dict.fromkeys(self.changed))))

    def after_commit(self) -> None:
        """Tell what was noted."""
        accepted, named = self.accepted and bool(self._hints), self._named
        self.forget()
        if accepted or named:
            # The loop may be gone, and those who listened with it.
            with suppress(RuntimeError):
                tell = partial(self._tell, accepted=accepted, named=named)
                self._loop.call_soon_threadsafe(tell)

    def forget(self) -> None:
        """Forget what was noted, for it has been told or has not come to pass."""
        self.accepted, self._named = False, ()
        self.changed.clear()

    def _tell(self, *, accepted: bool, named: Sequence[AnyRow]) -> None:
        if accepted:
            for hint in self._hints:
                hint.set()
        if named:
            for listener in self._listeners:
                listener(named)
