"""Connections that wait for their next request, bounded in number, idle time and age."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Final

from signalpost.sender.connection import Connection

MAX_IDLE: Final = 2000
"""Most connections that wait, over all endpoints; those that wait for longest give way."""

MAX_IDLE_PER_ENDPOINT: Final = 64


class Pool:
    """Keeps connections by key; what is taken out is not known here any more."""

    def __init__(self, *, max_idle: int = MAX_IDLE) -> None:
        self._max_idle = max_idle
        self._by_key: dict[Hashable, deque[Connection]] = {}
        self._oldest_first: OrderedDict[Connection, Hashable] = OrderedDict()

    def __len__(self) -> int:
        """Return how many connections wait."""
        return len(self._oldest_first)

    def take(self, key: Hashable) -> Connection | None:
        """Take out the connection used last, if one can be used again."""
        waiting = self._by_key.get(key)
        while waiting:
            connection = waiting.pop()
            del self._oldest_first[connection]
            if not waiting:
                del self._by_key[key]
            if connection.is_reusable():
                return connection
            connection.close()
        return None

    def put(self, key: Hashable, connection: Connection) -> None:
        """Keep a connection for its next request."""
        waiting = self._by_key.setdefault(key, deque())
        waiting.append(connection)
        self._oldest_first[connection] = key
        if len(waiting) > MAX_IDLE_PER_ENDPOINT:
            self._drop(waiting[0])
        if len(self._oldest_first) > self._max_idle:
            self._drop(next(iter(self._oldest_first)))

    def sweep(self) -> None:
        """Close the connections that cannot be used again."""
        for connection in list(self._oldest_first):
            if not connection.is_reusable():
                self._drop(connection)

    def close(self) -> None:
        """Close all connections."""
        for connection in list(self._oldest_first):
            self._drop(connection)

    def _drop(self, connection: Connection) -> None:
        key = self._oldest_first.pop(connection)
        waiting = self._by_key[key]
        waiting.remove(connection)
        if not waiting:
            del self._by_key[key]
        connection.close()
