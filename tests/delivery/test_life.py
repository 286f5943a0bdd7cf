"""Whatever happens to the engine, each delivery is in one state, and none is forgotten.

Hypothesis chooses what happens: calls, answers of endpoints, crashes, time. After each step the
database must be sound, whatever is sent must be what may be sent, and in the end everything
must come to its end without a look around for what was missed.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState
from signalpost.domain.errors import StateInvalid
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, LaneId, SubscriptionId
from signalpost.domain.outcome import Outcome
from signalpost.domain.replay import ReplayOrder, ReplayScope
from signalpost.domain.subscription import RetryPolicy, Subscription
from signalpost.store import subscriptions
from signalpost.store.tables import Phase
from signalpost.store.units import to_time
from signalpost.subscriptions.changing import Changer
from signalpost.subscriptions.register import SubscriptionDraft
from tests.contract.lines import is_sound, standing
from tests.contract.material import NOW, TENANT, event, subscription
from tests.contract.sqlite_file import look
from tests.delivery.engine import Clock
from tests.delivery.workshop import Held, Workshop

EXAMPLES = int(os.environ.get("SIGNALPOST_TEST_LIFE_EXAMPLES", "8"))
"""How many lives are tried. Raise it before a release."""

T = TypeVar("T")
POLICY = RetryPolicy(
    max_attempts=3, min_backoff=timedelta(seconds=1), max_backoff=timedelta(seconds=10)
)
MOST_SUBSCRIPTIONS = 3
WHICH = strategies.integers(0, 11)
ANSWERS = [(Outcome.SUCCEEDED, 200), (Outcome.REJECTED, 500), (Outcome.REJECTED, 503)]
ANSWERS += [(Outcome.TIMED_OUT, 0)]


class Row(NamedTuple):
    """A delivery with its place in the queue, if it has one."""

    id: int
    event_row: int
    lane_id: int
    state: int
    attempts: int
    create_time: int
    end_time: int | None
    phase: int | None
    token: int | None


ROWS = """
    SELECT d.id, d.event_row, d.lane_id, d.state, coalesce(q.attempts, d.attempts),
        d.create_time, d.end_time, q.phase, q.token
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
EVENTS = "SELECT id, event_id, resource_id FROM events"


@dataclass
class Subscribed:
    """What was asked for."""

    name: SubscriptionId
    cap: int
    ordered: bool
    active: bool = True


class Life(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "store.db"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(subscriptions, "_CHUNK", 2)
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

    # What is sent.

    def sending(self, held: Held) -> None:
        """Note what is wrong with a request that begins; nothing else happens meanwhile."""
        lane = self.lanes.get(held.lane_id)
        beside = [one for one in self.shop.sender.held if one.lane_id == held.lane_id]
        [(state, phase, resource, is_first)] = look(self.path, SENT, held.event_id, held.lane_id)
        fresh = [one for one in beside if not (one.late or one.loose)]
        about = dict(self.events.values())
        checks = {
            "the lane may not send": lane is not None and lane.active,
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

    @property
    def held(self) -> Sequence[Held]:
        return self.shop.sender.held

    # What happens.

    @initialize(ordered=strategies.booleans(), cap=strategies.integers(1, 3))
    def begin_with_one(self, *, ordered: bool, cap: int) -> None:
        self.subscribed(cap, ordered=ordered)
        self.publish(["a", "a", "b"])

    @precondition(lambda self: len(self.lanes) < MOST_SUBSCRIPTIONS)
    @rule(ordered=strategies.booleans(), cap=strategies.integers(1, 3))
    def subscribe(self, *, ordered: bool, cap: int) -> None:
        self.subscribed(cap, ordered=ordered)

    def subscribed(self, cap: int, *, ordered: bool) -> None:
        self.created += 1
        wanted = subscription(
            f"sub-{self.created}",
            max_concurrent_attempts=cap,
            ordered=ordered,
            retry_policy=POLICY,
            endpoint_uri=f"https://receiver{self.created}.example/hook",
        )
        stored = self.run(self.shop.store.create(wanted))
        self.lanes[stored.lane_id] = Subscribed(stored.subscription_id, cap, ordered)

    @rule(resources=strategies.lists(strategies.sampled_from("ab"), min_size=1, max_size=6))
    def publish(self, resources: list[str]) -> None:
        first, self.published = self.published, self.published + len(resources)
        self.clock.advance(seconds=1)
        now = self.clock.now()
        events = [
            event(f"e{n}", resource=resource, publish_time=now)
            for n, resource in enumerate(resources, start=first)
        ]
        for accepted in self.run(self.shop.store.accept(events, now=now)):
            assert accepted.delivery_count == len(self.lanes)
            self.shop.engine.lanes.notice(accepted.lanes, due=now)
        for row, event_id, resource in look(self.path, EVENTS):
            if row not in self.events:
                self.events[row] = (event_id, resource)
                self.owed |= {(row, lane_id) for lane_id in self.lanes}

    @rule()
    def begin(self) -> None:
        self.run(self.shop.begin())

    @precondition(lambda self: self.held)
    @rule(which=WHICH, answer=strategies.sampled_from(ANSWERS))
    def end(self, which: int, answer: tuple[Outcome, int]) -> None:
        self.answer(self.held[which % len(self.held)], answer)

    def answer(self, held: Held, answer: tuple[Outcome, int]) -> None:
        outcome, status_code = answer
        before = self.rows
        self.run(self.shop.end(held, outcome, status_code=status_code))
        assert not held.late or self.rows == before

    @rule(time=strategies.sampled_from([timedelta(seconds=1), timedelta(seconds=15), 2 * LEASE]))
    def wait(self, time: timedelta) -> None:
        self.clock.time += time
        for held in self.held:
            held.late = held.late or held.expires <= self.clock.now()
        self.run(self.shop.engine.rescuer.run_once())

    @rule()
    def crash(self) -> None:
        self.run(self.shop.kill())
        self.open()

    @precondition(lambda self: self.lanes)
    @rule(which=WHICH, active=strategies.booleans())
    def pause_or_resume(self, which: int, *, active: bool) -> None:
        lane = self.chosen(which)[1]
        change = self.shop.lifecycle.resume if active else self.shop.lifecycle.pause
        self.run(change(TENANT, lane.name))
        lane.active = active

    @precondition(lambda self: self.lanes)
    @rule(which=WHICH, cut_short=strategies.booleans())
    def change_order(self, which: int, *, cut_short: bool) -> None:
        lane = self.chosen(which)[1]
        lane.ordered = not lane.ordered
        for held in self.held:
            held.loose = True
        draw = Redrawn(ordered=lane.ordered)
        if cut_short:
            changer = Changer(self.shop.store, clock=self.clock)
            self.run(changer.change(TENANT, lane.name, draw.revise))
        else:
            update = self.shop.registrar.update
            self.run(update(TENANT, lane.name, draw.draft, etag=None, validate_only=False))

    @precondition(lambda self: self.lanes)
    @rule(which=WHICH)
    def delete(self, which: int) -> None:
        lane_id, lane = self.chosen(which)
        del self.lanes[lane_id]
        delete = self.shop.registrar.delete
        self.run(delete(TENANT, lane.name, etag=None, allow_missing=False))

    def chosen(self, which: int) -> tuple[LaneId, Subscribed]:
        return list(self.lanes.items())[which % len(self.lanes)]

    @rule(which=WHICH)
    def retry(self, which: int) -> None:
        if rows := self.rows:
            row = rows[which % len(rows)]
            try:
                found = self.run(self.shop.repairer.retry(DeliveryKey(row.id)))
            except StateInvalid:
                assert row.lane_id not in self.lanes or row.event_row not in self.events
            else:
                assert found.state is DeliveryState.PENDING

    @precondition(lambda self: self.lanes)
    @rule(which=WHICH, scope=strategies.sampled_from(ReplayScope))
    def replay(self, which: int, scope: ReplayScope) -> None:
        lane_id, lane = self.chosen(which)
        self.clock.time += timedelta(milliseconds=1)
        order = ReplayOrder(tenant_id=TENANT, subscription_id=lane.name, scope=scope, start=NOW)
        before = self.pairs
        self.run(self.shop.replay(order))
        fresh = self.pairs - before
        assert not fresh or scope is not ReplayScope.FAILED
        assert {found for _, found in fresh} <= {lane_id}
        self.owed |= fresh

    @precondition(lambda self: self.lanes)
    @rule(
        which=WHICH,
        last=WHICH,
        resources=strategies.sampled_from([frozenset(), frozenset("a")]),
    )
    def cancel(self, which: int, last: int, resources: frozenset[str]) -> None:
        lane_id, lane = self.chosen(which)
        pending = [row for row in self.rows if row.lane_id == lane_id and row.phase is not None]
        end = pending[last % len(pending)].create_time + 1 if pending else 0
        cancel = self.shop.repairer.cancel
        chosen = EventFilter(resource_ids=resources)
        self.run(cancel(TENANT, lane.name, chosen=chosen, end=to_time(end), validate_only=False))
        for row in self.rows:
            is_chosen = not resources or self.events[row.event_row][1] in resources
            if row.lane_id == lane_id and is_chosen and row.create_time < end:
                assert row.phase in (None, Phase.LEASED)

    @rule(days=strategies.sampled_from([8, 40]))
    def prune(self, days: int) -> None:
        self.wait(timedelta(days=days))
        before = {(row.event_row, row.lane_id): row for row in self.rows}
        self.run(self.shop.prune())
        gone = before.keys() - self.pairs
        for pair in gone:
            assert before[pair].state != DeliveryState.PENDING
        self.owed -= gone
        stored = {row for row, *_ in look(self.path, EVENTS)}
        assert {row.event_row for row in self.rows} <= stored
        self.events = {row: self.events[row] for row in stored}

    # What must be true.

    @property
    def pairs(self) -> set[tuple[int, int]]:
        return {(row.event_row, row.lane_id) for row in self.rows}

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
        """Resume everything and answer well, until nothing is pending any more."""
        for lane in self.lanes.values():
            self.run(self.shop.lifecycle.resume(TENANT, lane.name))
            lane.active = True
        for _ in range(100):
            while self.run(self.shop.begin()) or self.held:
                for held in list(self.held):
                    self.answer(held, ANSWERS[0])
            assert self.wrong == []
            if all(row.phase is None for row in self.rows):
                return
            self.wait(timedelta(seconds=20))
        raise AssertionError(f"stranded: {[row for row in self.rows if row.phase is not None]}")


@dataclass(frozen=True)
class Redrawn:
    """Changes nothing of a subscription but its order."""

    ordered: bool

    def draft(self, former: Subscription) -> SubscriptionDraft:
        kept = {
            one.name: getattr(former, one.name)
            for one in fields(SubscriptionDraft)
            if one.name != "ordered"
        }
        return SubscriptionDraft(ordered=self.ordered, **kept)

    def revise(self, former: Subscription, _: datetime) -> Subscription:
        return replace(former, ordered=self.ordered)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
