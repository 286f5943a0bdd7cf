"""What all lanes together send to each host, and who waits for that.

* So many attempts at once, whatever comes of them.
* And a rate, for hosts that take little of what they are sent. Anybody can name the host of
  somebody who never asked, in as many subscriptions as they like; all of them together must
  not be a flood, and neither must it be slow to send what a large receiver takes for many
  subscriptions. So what is bounded is what fails, beyond as many as succeed: each failure
  keeps one of the host's slots from use for its part of a second, and a success gives one
  back. At first a host is sent as much as any; where all fails the slots are soon used up,
  and single attempts try, evenly; from the first success on, twice as many after each turn.
* A lane whose endpoint took the last attempt does not wait for that: what others send in
  vain, to the same host, delays nobody whose deliveries arrive.
* Lanes that wait stand in turn, tenants first: nobody has more turns for more subscriptions.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from signalpost.delivery.ring import Ring
from signalpost.domain.ids import TenantId
from signalpost.domain.lane import AwaitHost, HostFacts, Lane, SpareHost

_MOST_KEPT: Final = 10_000
"""Failures of one host that are remembered at most."""


@dataclass(slots=True)
class Host(HostFacts):
    """A host to which some lanes send.

    In `waiting` are those that could go but for what is under way there, in `sparing` those
    that could but for what failed there, None if nobody ever was; some may have left since.
    If there is room for both they are called by turns, `spared` tells which was the last.
    `alarm` is the time of its one valid entry in the heap.
    """

    name: str = ""
    lanes: int = 0
    waiting: Ring[TenantId] | None = None
    sparing: Ring[TenantId] | None = None
    spared: bool = False
    alarm: datetime | None = None

    def next_ring(self, *, spare: bool) -> Ring[TenantId] | None:
        """Return where the next lane to be called stands; `spare` if there is room for those."""
        if not spare or not self.sparing:
            return self.waiting or None
        if not self.waiting:
            return self.sparing
        self.spared = not self.spared
        return self.sparing if self.spared else self.waiting


class Hosts:
    """Keeps a host as long as a lane with something to do names it, or failures count there.

    `next_look` is when to call `due` again.
    """

    def __init__(self, *, limit: int, failures_per_second: int) -> None:
        self._gap: Final = timedelta(seconds=1) / failures_per_second
        # With more slots than failures are remembered some would never be kept from use.
        self._limit: Final = min(limit, _MOST_KEPT) if self._gap else limit
        self._longest: Final = min(limit, _MOST_KEPT) * self._gap
        self._hosts: dict[str, Host] = {}
        self._later: list[tuple[datetime, str]] = []

    @property
    def next_look(self) -> datetime | None:
        """When a host is to be looked at again, None if none is."""
        return self._later[0][0] if self._later else None

    def enter(self, name: str) -> Host:
        """Return a host for a lane that sends to it. Nobody shares the host of no name."""
        if not name:
            return Host(lanes=1)
        host = self._hosts.get(name)
        if host is None:
            host = self._hosts[name] = Host(self._limit, gap=self._gap, name=name)
        host.lanes += 1
        return host

    def leave(self, host: Host) -> None:
        """Let go of a host that a lane entered."""
        host.lanes -= 1
        self._drop_if_idle(host)

    def failed(self, host: Host, *, now: datetime) -> None:
        """Take in that an attempt failed there."""
        if not host.gap:
            return
        before = now if host.clear_at is None else max(host.clear_at, now)
        host.clear_at = min(before + host.gap, now + self._longest)
        self.set_alarm(host)

    def succeeded(self, host: Host) -> None:
        """Take in that an attempt succeeded there."""
        if host.clear_at is not None:
            host.clear_at -= host.gap

    def park(self, host: Host, lane: Lane, decision: AwaitHost | SpareHost) -> None:
        """Let a lane stand behind its host, for the reason that this decision gave."""
        if isinstance(decision, AwaitHost):
            ring = host.waiting = host.waiting or Ring()
        else:
            ring = host.sparing = host.sparing or Ring()
        ring.add(lane.tenant_id, lane.lane_id)
        self.set_alarm(host)

    def set_alarm(self, host: Host, *, soonest: datetime | None = None) -> None:
        """See to it that a host is looked at when it has room, or nothing more counts there."""
        at = (host.next_room if host.sparing else None) or host.clear_at
        if at is not None and soonest is not None:
            at = max(at, soonest)
        if at is not None and (host.alarm is None or at < host.alarm):
            host.alarm = at
            heapq.heappush(self._later, (at, host.name))

    def due(self, now: datetime) -> Iterator[Host]:
        """Return each host that may have room by now for lanes that spare it."""
        while self._later and self._later[0][0] <= now:
            at, name = heapq.heappop(self._later)
            host = self._hosts.get(name)
            if host is None or host.alarm != at:
                continue
            host.alarm = None
            if host.clear_at is not None and host.clear_at <= now:
                host.clear_at = None
            yield host
            # Those that were called take their slots only later: one more a gap, until then.
            self.set_alarm(host, soonest=now + host.gap)
            self._drop_if_idle(host)

    def _drop_if_idle(self, host: Host) -> None:
        if host.lanes == 0 and host.clear_at is None and self._hosts.get(host.name) is host:
            del self._hosts[host.name]

    def __len__(self) -> int:
        return len(self._hosts)
