"""How many attempts are under way to each host, over all lanes, and who waits for a turn."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from signalpost.domain.ids import LaneId
from signalpost.domain.lane import UNLIMITED, HostFacts


@dataclass(slots=True)
class Host(HostFacts):
    """A host to which some lanes send; `waiting` are those that could go but for it."""

    lanes: int = 0
    waiting: deque[LaneId] = field(default_factory=deque)


class Hosts:
    """Keeps a host as long as a lane with something to do names it."""

    def __init__(self, *, limit: int) -> None:
        self._limit: Final = limit
        self._hosts: dict[str, Host] = {}

    def enter(self, name: str) -> Host:
        """Return a host for a lane that sends to it. Nobody shares the host of no name."""
        if not name:
            return Host(UNLIMITED, lanes=1)
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(self._limit)
        host.lanes += 1
        return host

    def leave(self, name: str, host: Host) -> None:
        """Let go of a host that a lane entered."""
        host.lanes -= 1
        if host.lanes == 0 and self._hosts.get(name) is host:
            del self._hosts[name]

    def __len__(self) -> int:
        return len(self._hosts)
