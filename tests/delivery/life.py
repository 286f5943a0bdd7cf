"""The engine, watched: what it was asked for is known, and all that it does is judged by that."""

from __future__ import annotations

import asyncio
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import event
from hypothesis.stateful import RuleBasedStateMachine, invariant

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.ids import LaneId, SubscriptionId
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import State, SuspensionReason
from signalpost.store import backlog, subscriptions
from signalpost.store.tables import Phase
from signalpost.store.units import from_optional_time
from tests.contract.lines import is_sound, standing
from tests.contract.material import TENANT
from tests.contract.sqlite_file import look
from tests.delivery.engine import Clock
from tests.delivery.failures import Failures
from tests.delivery.workshop import PROMPT, SLOTS, Held, Workshop

T = TypeVar("T")
WELL = (Outcome.SUCCEEDED, 200)


class Row(NamedTuple):
    """A delivery with its place in the queue, if it has one."""

    id: int
    event_row: int
    lane_id: int
    state: int
    reason: int
    attempts: int
    create_time: int
    end_time: int | None
    phase: int | None
    token: int | None


class Stored(NamedTuple):
    """What is stored of a subscription."""

    state: int
    reason: int
    stop_time: int | None
    version: int


ROWS = """
    SELECT d.id, d.event_row, d.lane_id, d.state, d.failure_reason,
        coalesce(q.attempts, d.attempts), d.create_time, d.end_time, q.phase, q.token
    FROM deliveries d LEFT JOIN queue q ON q.id = d.id ORDER BY d.id
"""
SENT = """
    SELECT d.state, q.phase, q.resource, (
        SELECT min(o.event_row) = q.event_row FROM queue o
        WHERE o.lane_id = q.lane_id AND o.resource = q.resource
    )
    FROM events e JOIN deliveries d ON d.event_row = e.id LEFT JOIN queue q ON q.id = d.id
    WHERE e.event_id = ? AND d.lane_id = ?
"""
EVENTS = "SELECT id, event_id, resource_id, event_type FROM events"
SUBSCRIPTIONS = """
    SELECT lane_id, state, suspension_reason, stop_time, version
    FROM subscriptions WHERE delete_time IS NULL
"""


@dataclass
class Subscribed:
    """What was asked for, and what followed from the answers.

    `failures` are all that count, `lasting` those of them that crashes cannot have undone.
    """

    name: SubscriptionId
    cap: int
    ordered: bool
    state: State = State.ACTIVE
    reason: SuspensionReason = SuspensionReason.NONE
    stop_time: datetime | None = None
    failures: Failures = field(default_factory=Failures)
    lasting: Failures = field(default_factory=Failures)

    @property
    def active(self) -> bool:
        return self.state is State.ACTIVE

    def stop(self, state: State, *, now: datetime) -> None:
        self.state, self.stop_time = state, now

    def resume(self) -> None:
        if not self.active:
            self.failures, self.lasting = Failures(), Failures()
        self.state, self.reason, self.stop_time = State.ACTIVE, SuspensionReason.NONE, None


class Watched(RuleBasedStateMachine):
    """What happens is up to the rules of who inherits from this."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "store.db"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(subscriptions, "_CHUNK", 2)
        self.patch.setattr(backlog, "MOST_ENDED", 2)
        self.patch.setattr(backlog, "MOST_LOOKED_AT", 5)
        self.clock = Clock()
        self.lanes: dict[LaneId, Subscribed] = {}
        self.owed: set[tuple[int, int]] = set()
        self.events: dict[int, tuple[str, str]] = {}
        self.tokens: dict[int, tuple[int, int | None]] = {}
        self.wrong: list[str] = []
        self.created = self.published = 0
        self.open()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def open(self) -> None:
        self.shop = self.run(Workshop.open(self.path, clock=self.clock, watch=self.sending))

    @property
    def rows(self) -> list[Row]:
        return [Row(*found) for found in look(self.path, ROWS)]

    @property
    def pairs(self) -> set[tuple[int, int]]:
        return {(row.event_row, row.lane_id) for row in self.rows}

    @property
    def stored(self) -> dict[int, Stored]:
        return {lane_id: Stored(*of) for lane_id, *of in look(self.path, SUBSCRIPTIONS)}

    @property
    def held(self) -> Sequence[Held]:
        return self.shop.sender.held

    def note_events(self, *, beside: LaneId | None = None) -> list[tuple[str, str]]:
        """Expect deliveries of new events in all lanes but one; return types and resources."""
        fresh = []
        for row, event_id, resource, event_type in look(self.path, EVENTS):
            if row not in self.events:
                self.events[row] = (event_id, resource)
                self.owed |= {(row, lane_id) for lane_id in self.lanes if lane_id != beside}
                fresh.append((event_type, resource))
        return fresh

    # What is sent, and what follows from its answer.

    def sending(self, held: Held) -> None:
        """Note what is wrong with a request that begins; nothing else happens meanwhile."""
        lane = self.lanes.get(held.lane_id)
        beside = [one for one in self.held if one.lane_id == held.lane_id]
        [(state, phase, resource, is_first)] = look(self.path, SENT, held.event_id, held.lane_id)
        fresh = [one for one in beside if not (one.late or one.loose)]
        about = dict(self.events.values())
        checks = {
            "the lane may not send": lane is not None and lane.active,
            "over all slots": len(self.held) < SLOTS,
            "over the cap": lane is not None and len(beside) < lane.cap,
            "not leased": (state, phase) == (DeliveryState.PENDING, Phase.LEASED),
            "twice at once": all(one.event_id != held.event_id for one in fresh),
            "not in line": lane is None or not lane.ordered or resource is not None,
            "out of order": resource is None or bool(is_first),
            "beside another of its resource": lane is None
            or not lane.ordered
            or all(about[one.event_id] != about[held.event_id] for one in fresh),
        }
        self.wrong += [f"{held.event_id}: {what}" for what, holds in checks.items() if not holds]
        held.version = self.stored[held.lane_id].version if lane is not None else 0

    def answer(
        self, held: Held, answer: tuple[Outcome, int], *, latency: timedelta = PROMPT
    ) -> None:
        outcome, status_code = answer
        before, lane = self.rows, self.lanes.get(held.lane_id)
        if lane is None:
            self.run(self.shop.end(held, outcome, status_code=status_code, latency=latency))
        else:
            self.answer_of(lane, held, outcome, status_code, latency)
        assert not held.late or self.rows == before

    def answer_of(
        self,
        lane: Subscribed,
        held: Held,
        outcome: Outcome,
        status_code: int,
        latency: timedelta,
    ) -> None:
        """End a request of a live lane; it is suspended if, and only if, that was one too many."""
        now, is_current = self.clock.now(), self.stored[held.lane_id].version == held.version
        may: set[SuspensionReason] = set()
        must: set[SuspensionReason] = set()
        if lane.active:
            for failures in (lane.failures, lane.lasting):
                failures.hear(outcome, now=now)
            if is_current and not held.late:
                may = lane.failures.reasons(status_code, now=now)
                must = lane.lasting.reasons(status_code, now=now)
        self.run(self.shop.end(held, outcome, status_code=status_code, latency=latency))
        stored = self.stored[held.lane_id]
        if not lane.active or stored.state != State.SUSPENDED:
            assert not must
            assert self.note_events() == []
            return
        lane.reason = SuspensionReason(stored.reason)
        event(f"suspended: {lane.reason.name}")
        assert lane.reason in may
        lane.stop(State.SUSPENDED, now=now)
        told = self.note_events(beside=held.lane_id)
        assert told == [("subscription.suspended", lane.name)]

    # What must be true.

    @invariant()
    def nothing_was_sent_that_must_not_be(self) -> None:
        assert self.wrong == []

    @invariant()
    def every_pair_is_in_exactly_one_state(self) -> None:
        rows = self.rows
        assert len(rows) == len(self.pairs)
        assert self.pairs == self.owed
        for row in rows:
            pending = row.state == DeliveryState.PENDING
            assert pending == (row.phase is not None) == (row.end_time is None)
        [(queued,)] = look(self.path, "SELECT count(*) FROM queue")
        assert queued == sum(row.phase is not None for row in rows)

    @invariant()
    def what_is_counted_is_what_is_pending(self) -> None:
        pending = Counter(row.lane_id for row in self.rows if row.phase is not None)
        assert self.run(self.shop.store.upkeep.lanes_over(0)) == pending

    @invariant()
    def subscriptions_are_as_they_were_left(self) -> None:
        expected = {
            lane_id: (lane.state, lane.reason, from_optional_time(lane.stop_time))
            for lane_id, lane in self.lanes.items()
        }
        assert {lane_id: found[:3] for lane_id, found in self.stored.items()} == expected

    @invariant()
    def nobody_is_told_of_what_did_not_happen(self) -> None:
        assert {row for row, *_ in look(self.path, EVENTS)} == self.events.keys()

    @invariant()
    def tokens_only_rise(self) -> None:
        for row in self.rows:
            if row.token is not None:
                token, phase = self.tokens.get(row.id, (-1, None))
                assert row.token >= token
                if (row.token, row.phase) != (token, phase) and row.phase == Phase.LEASED:
                    assert row.token > token
                self.tokens[row.id] = (row.token, row.phase)

    @invariant()
    def every_line_is_sound(self) -> None:
        assert all(map(is_sound, standing(self.path).values()))

    def wait(self, time: timedelta) -> None:
        """Let time pass; take back the leases that it outlasts."""
        self.clock.time += time
        for held in self.held:
            held.late = held.late or held.expires <= self.clock.now()
        self.run(self.shop.engine.rescuer.run_once())

    def teardown(self) -> None:
        try:
            if self.created:
                self.let_all_end()
        finally:
            self.run(self.shop.kill())
            self.runner.close()
            self.folder.cleanup()
            self.patch.undo()

    def let_all_end(self) -> None:
        """Resume what stands and answer well, until nothing is pending any more."""
        for lane in self.lanes.values():
            if not lane.active:
                self.run(self.shop.lifecycle.resume(TENANT, lane.name))
                lane.resume()
        for _ in range(100):
            while self.run(self.shop.begin()) or self.held:
                for held in list(self.held):
                    self.answer(held, WELL)
            assert self.wrong == []
            if all(row.phase is None for row in self.rows):
                return
            self.wait(timedelta(seconds=20))
        raise AssertionError(f"stranded: {[row for row in self.rows if row.phase is not None]}")
