"""The home of the lanes: which deliveries may go, decided from memory.

A lane is held here only while something of it waits or is under way, or there is something
to remember of its endpoint. It stands in the ring (tenants in turn, then their lanes in turn)
if it may go now, but for how much its tenant has under way; it has an alarm if it may go later,
behind its host if that is all that keeps it, and in none of them if it is blocked: then it
costs nothing, whatever waits in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from signalpost.delivery.alarms import Alarms
from signalpost.delivery.fair_ring import FairRing
from signalpost.delivery.hosts import Host, Hosts
from signalpost.delivery.lane_state import LaneState, Lesson
from signalpost.domain.ids import LaneId
from signalpost.domain.lane import (
    PROMPT_WITHIN,
    SLOTS_DOUBLE_EVERY,
    UNLIMITED,
    AwaitHost,
    Go,
    Lane,
    SpareHost,
    decide,
    open_slots,
    opens_at,
    replay_share,
    spacing,
)
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.pace import HEALTHY, RESUMING, Observation, Pace, hastened, observe
from signalpost.domain.suspension import judge
from signalpost.ports import Pick

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_NO_LESSON: Final = Lesson()
_NOT_OF_HOST: Final = frozenset({Outcome.INTERRUPTED, Outcome.FORBIDDEN})


class LaneHome:
    """Decides for all lanes. Not safe for threads: it belongs to one event loop.

    `host_limit` bounds the attempts under way to one host, `host_failures` those that fail
    there in a second beyond as many as succeed, whatever their lanes.
    """

    def __init__(self, *, host_limit: int = UNLIMITED, host_failures: int = UNLIMITED) -> None:
        self._lanes: dict[LaneId, LaneState] = {}
        self._hosts = Hosts(limit=host_limit, failures_per_second=host_failures)
        self._freed: dict[str, Host] = {}
        self._ring = FairRing()
        self._alarms = Alarms()
        self._now = self._begun = _LONG_AGO
        self._climbing_since: datetime | None = None
        self._changed = asyncio.Event()

    def notice(self, lanes: Iterable[Lane], *, due: datetime) -> None:
        """Take in that each lane holds a delivery that is due at `due`."""
        for lane in lanes:
            state = self._state_of(lane)
            state.forgotten = False
            state.hear(due)
            self._set_alarm(state)
        self._changed.set()

    def hasten(self, lane: Lane, *, due: datetime) -> None:
        """Take in that somebody wants an attempt at `due`: an open circuit lets a probe go."""
        state = self._state_of(lane)
        state.pace = hastened(state.pace, now=due)
        self.notice([lane], due=due)

    def begin(self, *, now: datetime) -> None:
        """Take in that a former process may have used up what rates allow, up to now."""
        self._begun = now

    def climb(self, *, now: datetime) -> None:
        """Take in that much may be due after a start: not all slots are to be used at once."""
        self._climbing_since = now

    def slots(self, most: int, *, now: datetime) -> int:
        """Return how many of the worker's slots may be in use now."""
        if self._climbing_since is None:
            return most
        found = open_slots(most, running=now - self._climbing_since)
        if found >= most:
            self._climbing_since = None
        return found

    def restore(self, lane: Lane, pace: Pace) -> None:
        """Take in what was learned of a lane's endpoint before a restart."""
        self._state_of(lane).pace = pace

    def resume(self, lane: Lane, *, due: datetime) -> None:
        """Take in that a lane may go after a restart or a stop: slowly at first."""
        state = self._state_of(lane)
        state.pace = replace(state.pace, ramp=RESUMING.ramp)
        self.notice([lane], due=due)

    def forget(self, lane_id: LaneId) -> None:
        """Let nothing more go on a lane until the next notice of it, and then as if it were new.

        What is under way still frees its slot.
        """
        state = self._lanes.get(lane_id)
        if state is not None:
            state.due, state.pace, state.forgotten = None, HEALTHY, True
            state.proven = False
            self._drop_if_idle(state)

    def picks(
        self, *, limit: int, now: datetime, free: int = UNLIMITED, slots: int = UNLIMITED
    ) -> list[Pick]:
        """Choose what to claim, at most `limit` deliveries, and reserve their slots.

        Of all `slots` so many are `free`, in nobody's use; no tenant may take all of those.
        Every pick must be given back to `claimed`.
        """
        self._now = now
        if limit > 0:
            self._call_freed()
        self._wake_due(now)
        self._ring.recall(free=free, slots=slots, most=limit)
        quantum = max(1, limit // max(1, len(self._ring)))
        picks = []
        while limit > 0 and (room := self._ring.room(free=free, slots=slots)):
            party, lane_id = self._ring.take_turn()
            state = self._lanes.get(lane_id)
            if state is None or not state.takes_turn(party):
                continue
            match decide(state, now=now):
                case Go(count):
                    taken = min(count, quantum, limit, room)
                    limit, free = limit - taken, free - taken
                    self._reserve(state, taken, now=now)
                    state.held, state.due = True, None
                    replays, state.turn = replay_share(state.turn, taken)
                    picks.append(Pick(state.lane.lane_id, taken, replays))
                case AwaitHost() | SpareHost() as decision:
                    self._park(state, decision)
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
            unused = pick.count - counts.get(pick.lane_id, 0)
            if unused:
                self._give_back(state, unused)
                dry.append(pick.lane_id)
            else:
                self._end_claim(state, due=now)
        return dry

    def ran_dry(self, lanes: Sequence[LaneId], due: Mapping[LaneId, datetime]) -> None:
        """Take in when the first delivery of each of these lanes is due, if one waits."""
        for lane_id in lanes:
            self._end_claim(self._lanes[lane_id], due=due.get(lane_id))

    @property
    def next_look(self) -> datetime | None:
        """When a lane or a host is to be looked at again, None if none is."""
        times = self._alarms.next, self._hosts.next_look
        return min((time for time in times if time is not None), default=None)

    def width(self, lane_id: LaneId) -> int:
        """Return how many deliveries of a lane are under way."""
        return self._lanes[lane_id].in_flight

    def learn(
        self, lane_id: LaneId, result: AttemptResult, *, start: datetime, width: int, now: datetime
    ) -> Lesson:
        """Learn from an attempt whose slot is not free yet, and beside which `width` began."""
        state = self._lanes[lane_id]
        before = state.pace
        succeeded = result.outcome is Outcome.SUCCEEDED
        is_prompt = result.latency <= PROMPT_WITHIN
        if is_prompt is not state.party.is_prompt and result.outcome is not Outcome.INTERRUPTED:
            self._ring.change(state)
        if not (succeeded and state.proven and state.host.clear_at is None):
            self._learn_of_host(state, result.outcome, now=now)
        if state.forgotten or (before is HEALTHY and succeeded):
            return _NO_LESSON
        seen = Observation(
            result=result,
            start=start,
            now=now,
            width=max(width, state.in_flight),
            cap=state.lane.max_in_flight,
            lane=lane_id,
        )
        state.pace = after = observe(before, seen)
        return Lesson(
            pace=after if after.lasting != before.lasting else None,
            suspension=judge(before, after, result, now=now),
        )

    def ended(self, lane_id: LaneId) -> None:
        """Free the slot of an attempt. `recorded` must be told once its record is committed."""
        state = self._lanes[lane_id]
        state.unrecorded += 1
        self._ring.release(state.party, 1)
        self._free(state, 1)
        self._reconsider(state)

    def recorded(self, lane_id: LaneId, *, next_due: datetime | None) -> None:
        """Take in that the record of an attempt is committed, and what is due after it."""
        state = self._lanes[lane_id]
        state.unrecorded -= 1
        if next_due is not None:
            state.hear(next_due)
        self._reconsider(state)

    def is_throttled(self, lane_id: LaneId, *, now: datetime) -> bool:
        """Tell whether nothing of a lane may go now, even if it is due."""
        state = self._lanes.get(lane_id)
        if state is None:
            return False
        return not isinstance(decide(replace(state, due=now, held=False), now=now), Go)

    async def wait(self, *, now: datetime, longest: timedelta) -> None:
        """Return when something changed, or a lane is due, or after `longest`."""
        if self._climbing_since is not None:
            longest = min(longest, SLOTS_DOUBLE_EVERY)
        next_look = self.next_look
        delay = longest if next_look is None else min(longest, next_look - now)
        try:
            async with asyncio.timeout(max(0.0, delay.total_seconds())):
                await self._changed.wait()
        except TimeoutError:
            pass
        self._changed.clear()

    def wake(self) -> None:
        """Make `wait` return."""
        self._changed.set()

    def _state_of(self, lane: Lane) -> LaneState:
        state = self._lanes.get(lane.lane_id)
        if state is None:
            host = self._hosts.enter(lane.host)
            party = self._ring.enter(lane.tenant_id, lane.lane_id)
            state = self._lanes[lane.lane_id] = LaneState(lane=lane, host=host, party=party)
            if lane.max_per_second is not None:
                state.next_token = self._begun + spacing(lane.max_per_second)
        elif state.lane is not lane:
            if state.lane.host != lane.host:
                self._move(state, lane.host)
            state.lane = lane
        return state

    def _move(self, state: LaneState, host: str) -> None:
        """Let a lane send to another host; what is under way counts there from now on."""
        count = state.in_flight
        self._free(state, count)
        self._hosts.leave(state.host)
        state.host, state.parked, state.proven = self._hosts.enter(host), None, False
        state.in_flight = state.strays = count
        state.host.in_flight += count

    def _reserve(self, state: LaneState, count: int, *, now: datetime) -> None:
        state.in_flight += count
        state.host.in_flight += count
        self._ring.hold(state.party, count)
        if state.lane.max_per_second is not None:
            state.next_token = now + count * spacing(state.lane.max_per_second)

    def _give_back(self, state: LaneState, count: int) -> None:
        """Take back slots in which nothing was begun, and the tokens with them."""
        if state.next_token is not None and state.lane.max_per_second is not None:
            state.next_token -= count * spacing(state.lane.max_per_second)
        self._ring.release(state.party, count)
        self._free(state, count)

    def _free(self, state: LaneState, count: int) -> None:
        state.in_flight -= count
        host = state.host
        host.in_flight -= count
        if host.waiting or host.sparing:
            # Many end before the next look: those that stand there are called once, and then.
            self._freed[host.name] = host

    def _learn_of_host(self, state: LaneState, outcome: Outcome, *, now: datetime) -> None:
        """Learn from the end of an attempt what its host takes, from whatever lane."""
        is_stray = state.strays > 0
        state.strays = min(state.strays, state.in_flight) - is_stray
        # What the former host took says nothing of this one, nor does what was never sent because
        # the addresses that a subscription allows are others.
        if outcome in _NOT_OF_HOST or (is_stray and outcome is Outcome.SUCCEEDED):
            return
        if outcome is not Outcome.SUCCEEDED:
            state.proven = False
            self._hosts.failed(state.host, now=now)
            return
        self._hosts.succeeded(state.host)
        if not state.proven and not state.forgotten:
            state.proven = True
            if isinstance(state.parked, SpareHost):
                self._unpark(state.lane.lane_id)

    def _park(self, state: LaneState, decision: AwaitHost | SpareHost) -> None:
        if state.parked is None:
            state.parked = decision
            self._hosts.park(state.host, state.lane, decision)

    def _call(self, host: Host) -> None:
        """Let as many lanes go that stood behind a host as it has room for."""
        room = host.limit - host.in_flight
        spare = min(room, host.room(now=self._now))
        while room > 0 and (ring := host.next_ring(spare=spare > 0)):
            goes = self._unpark(ring.take())
            room -= goes
            spare -= goes and ring is host.sparing
        if host.waiting or (host.sparing and host.clear_at is None):
            # Should those that were called have no use for the room, others are next.
            self._freed[host.name] = host

    def _call_freed(self) -> None:
        freed, self._freed = self._freed, {}
        for host in freed.values():
            self._call(host)
            self._hosts.set_alarm(host)

    def _unpark(self, lane_id: LaneId) -> bool:
        """Look again at a lane that stood behind its host; tell whether it may go."""
        state = self._lanes.get(lane_id)
        if state is None or state.parked is None:
            return False
        state.parked = None
        match decide(state, now=self._now):
            case AwaitHost() | SpareHost() as decision:
                self._park(state, decision)
                return False
            case decision:
                self._reconsider(state)
                return isinstance(decision, Go)

    def _end_claim(self, state: LaneState, *, due: datetime | None) -> None:
        state.held = False
        if due is not None:
            state.hear(due)
        self._reconsider(state)

    def _reconsider(self, state: LaneState) -> None:
        self._set_alarm(state)
        self._drop_if_idle(state)
        self._changed.set()

    def _set_alarm(self, state: LaneState) -> None:
        if state.due is None or state.parked or state.stands is not None:
            return
        at = opens_at(state)
        if at is not None:
            self._alarms.set(state.lane.lane_id, at)

    def _drop_if_idle(self, state: LaneState) -> None:
        if not state.is_idle or state.lane.lane_id not in self._lanes:
            return
        kept_until = state.kept_until
        if kept_until is not None and kept_until > self._now:
            self._alarms.set(state.lane.lane_id, kept_until)
            return
        del self._lanes[state.lane.lane_id]
        self._ring.leave(state.party)
        self._hosts.leave(state.host)

    def _wake_due(self, now: datetime) -> None:
        for host in self._hosts.due(now):
            self._call(host)
        for lane_id in self._alarms.due(now):
            state = self._lanes.get(lane_id)
            if state is None:
                continue
            match decide(state, now=now):
                case Go() if state.stands is None:
                    self._ring.stand(state)
                case AwaitHost() | SpareHost() as decision:
                    self._park(state, decision)
                case _:
                    self._reconsider(state)
