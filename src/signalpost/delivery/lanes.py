"""The home of the lanes: which deliveries may go, decided from memory.

A lane is held here only while something of it waits or is under way. It stands in the ring
(tenants in turn, then their lanes in turn) if it may go now, in the heap if it may go
later, and in neither if it is blocked: then it costs nothing, whatever waits in it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import Go, Lane, LaneFacts, LookAgain, decide, replay_share
from signalpost.ports import Pick


class _LaneState:
    """What is known of one lane.

    `due` is the earliest due time heard of; while a claim is under way it holds only what
    was heard since the claim began, so that no hint is lost to a claim that ran beside it.
    `alarm` is the time of the lane's one valid entry in the heap. A `forgotten` one only waits
    for what is under way: what that says of retries is not heard. `turn` keeps the share of
    replays.
    """

    __slots__ = ("alarm", "claiming", "due", "forgotten", "in_flight", "lane", "ready", "turn")

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.due: datetime | None = None
        self.alarm: datetime | None = None
        self.in_flight = 0
        self.claiming = False
        self.ready = False
        self.forgotten = False
        self.turn = 0

    def hear(self, due: datetime) -> None:
        """Take in that something is due at this time."""
        if not self.forgotten and (self.due is None or due < self.due):
            self.due = due

    @property
    def facts(self) -> LaneFacts:
        return LaneFacts(
            due=self.due,
            in_flight=self.in_flight,
            max_in_flight=self.lane.max_in_flight,
            blocked=self.claiming,
        )

    @property
    def is_idle(self) -> bool:
        return not (self.due or self.in_flight or self.claiming or self.ready)


class LaneHome:
    """Decides for all lanes. Not safe for threads: it belongs to one event loop."""

    def __init__(self) -> None:
        self._lanes: dict[LaneId, _LaneState] = {}
        self._ring: deque[TenantId] = deque()
        self._ready: dict[TenantId, deque[_LaneState]] = {}
        self._ready_count = 0
        self._later: list[tuple[datetime, LaneId]] = []
        self._changed = asyncio.Event()

    def notice(self, lanes: Iterable[Lane], *, due: datetime) -> None:
        """Take in that each lane holds a delivery that is due at `due`."""
        for lane in lanes:
            state = self._lanes.get(lane.lane_id)
            if state is None:
                state = self._lanes[lane.lane_id] = _LaneState(lane)
            state.lane, state.forgotten = lane, False
            state.hear(due)
            self._set_alarm(state)
        self._changed.set()

    def forget(self, lane_id: LaneId) -> None:
        """Let nothing more go on a lane until the next notice of it.

        What is under way still frees its slot.
        """
        state = self._lanes.get(lane_id)
        if state is not None:
            state.due, state.forgotten = None, True
            self._drop_if_idle(state)

    def picks(self, *, limit: int, now: datetime) -> list[Pick]:
        """Choose what to claim, at most `limit` deliveries, and reserve their slots.

        Every pick must be given back to `claimed`.
        """
        self._wake_due(now)
        quantum = max(1, limit // max(1, self._ready_count))
        picks = []
        while limit > 0 and self._ring:
            state = self._next_ready()
            match decide(state.facts, now=now):
                case Go(count):
                    taken = min(count, quantum, limit)
                    limit -= taken
                    state.in_flight += taken
                    state.claiming, state.due = True, None
                    replays, state.turn = replay_share(state.turn, taken)
                    picks.append(Pick(state.lane.lane_id, taken, replays))
                case _:
                    self._reconsider(state)
        return picks

    def claimed(
        self, picks: Sequence[Pick], counts: Mapping[LaneId, int], *, now: datetime
    ) -> list[LaneId]:
        """Take in how many of each pick were leased; return the lanes that ran dry.

        Of those `ran_dry` must be told when to look again. The others may hold more.
        """
        dry = []
        for pick in picks:
            state = self._lanes[pick.lane_id]
            leased = counts.get(pick.lane_id, 0)
            state.in_flight -= pick.count - leased
            if leased < pick.count:
                dry.append(pick.lane_id)
            else:
                self._end_claim(state, due=now)
        return dry

    def ran_dry(self, lanes: Sequence[LaneId], due: Mapping[LaneId, datetime]) -> None:
        """Take in when the first delivery of each of these lanes is due, if one waits."""
        for lane_id in lanes:
            self._end_claim(self._lanes[lane_id], due=due.get(lane_id))

    def ended(self, lane_id: LaneId, *, retry_at: datetime | None) -> None:
        """Free the slot of an attempt whose record is committed."""
        state = self._lanes[lane_id]
        state.in_flight -= 1
        if retry_at is not None:
            state.hear(retry_at)
        self._reconsider(state)

    async def wait(self, *, now: datetime, longest: timedelta) -> None:
        """Return when something changed, or a lane is due, or after `longest`."""
        delay = min(longest, self._later[0][0] - now) if self._later else longest
        try:
            async with asyncio.timeout(max(0.0, delay.total_seconds())):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def wake(self) -> None:
        """Make `wait` return."""
        self._changed.set()

    def _end_claim(self, state: _LaneState, *, due: datetime | None) -> None:
        state.claiming = False
        if due is not None:
            state.hear(due)
        self._reconsider(state)

    def _reconsider(self, state: _LaneState) -> None:
        self._set_alarm(state)
        self._drop_if_idle(state)
        self._changed.set()

    def _set_alarm(self, state: _LaneState) -> None:
        if state.due is not None and (state.alarm is None or state.due < state.alarm):
            state.alarm = state.due
            heapq.heappush(self._later, (state.due, state.lane.lane_id))

    def _drop_if_idle(self, state: _LaneState) -> None:
        if state.is_idle:
            self._lanes.pop(state.lane.lane_id, None)

    def _wake_due(self, now: datetime) -> None:
        while self._later and self._later[0][0] <= now:
            alarm, lane_id = heapq.heappop(self._later)
            state = self._lanes.get(lane_id)
            if state is None or state.alarm != alarm:
                continue
            state.alarm = None
            match decide(state.facts, now=now):
                case Go() if not state.ready:
                    self._make_ready(state)
                case LookAgain():
                    self._set_alarm(state)

    def _make_ready(self, state: _LaneState) -> None:
        tenant = state.lane.tenant_id
        if tenant not in self._ready:
            self._ready[tenant] = deque()
            self._ring.append(tenant)
        self._ready[tenant].append(state)
        self._ready_count += 1
        state.ready = True

    def _next_ready(self) -> _LaneState:
        tenant = self._ring.popleft()
        lanes = self._ready[tenant]
        state = lanes.popleft()
        if lanes:
            self._ring.append(tenant)
        else:
            del self._ready[tenant]
        self._ready_count -= 1
        state.ready = False
        return state
