"""Whatever happens to the engine, each delivery is in one state, and none is forgotten.

Hypothesis chooses what happens: calls, answers of endpoints, crashes, time. After each step the
database must be sound, whatever is sent must be what may be sent, and in the end everything
must come to its end without a look around for what was missed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

from hypothesis import event as happened
from hypothesis import settings, strategies
from hypothesis.stateful import initialize, precondition, rule

from signalpost.delivery.worker import LEASE
from signalpost.domain.delivery import DeliveryState, FailureReason
from signalpost.domain.errors import StateInvalid, Violation
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.replay import ReplayOrder, ReplayScope
from signalpost.domain.subscription import RetryPolicy, State, Subscription
from signalpost.store.tables import Phase
from signalpost.store.units import from_time, to_time
from signalpost.subscriptions.changing import Changer
from signalpost.subscriptions.register import SubscriptionDraft
from tests.contract.material import NOW, TENANT, event, subscription
from tests.contract.sqlite_file import look
from tests.delivery.life import EVENTS, WELL, Row, Subscribed, Watched
from tests.delivery.workshop import PROMPT

EXAMPLES = int(os.environ.get("SIGNALPOST_TEST_LIFE_EXAMPLES", "8"))
"""How many lives are tried. Raise it before a release."""

POLICY = RetryPolicy(
    max_attempts=3, min_backoff=timedelta(seconds=1), max_backoff=timedelta(seconds=10)
)
MOST_SUBSCRIPTIONS = 3
WHICH = strategies.integers(0, 11)
GONE = (Outcome.REJECTED, 410)
FAILURES = [(Outcome.REJECTED, 500), (Outcome.FORBIDDEN, 0), (Outcome.TIMED_OUT, 0), GONE]
ANSWERS = [WELL, WELL, *FAILURES, (Outcome.REJECTED, 503)]
GAPS = [timedelta(minutes=7), timedelta(hours=11), timedelta(hours=13)]


class Life(Watched):
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
            assert all(self.lanes[lane.lane_id].active for lane in accepted.lanes)
            self.shop.engine.lanes.notice(accepted.lanes, due=now)
        assert len(self.note_events()) == len(events)

    @rule()
    def begin(self) -> None:
        self.run(self.shop.begin())

    @precondition(lambda self: self.held)
    @rule(
        which=WHICH,
        answer=strategies.sampled_from(ANSWERS),
        latency=strategies.sampled_from([PROMPT, PROMPT, timedelta(seconds=14)]),
    )
    def end(self, which: int, answer: tuple[Outcome, int], latency: timedelta) -> None:
        self.answer(self.held[which % len(self.held)], answer, latency=latency)

    @rule(
        answers=strategies.lists(strategies.sampled_from(FAILURES), min_size=1, max_size=2),
        gap=strategies.sampled_from(GAPS),
        times=strategies.integers(2, 14),
        resumed=strategies.booleans(),
    )
    def fail_on_and_on(
        self, answers: list[tuple[Outcome, int]], gap: timedelta, times: int, *, resumed: bool
    ) -> None:
        for lane in self.lanes.values():
            if resumed and lane.state is State.SUSPENDED:
                self.run(self.shop.lifecycle.resume(TENANT, lane.name))
                lane.resume()
        for number in range(times):
            self.publish(["a"])
            self.wait(gap)
            self.run(self.shop.begin())
            for held in list(self.held):
                self.answer(held, answers[number % len(answers)])

    @rule(time=strategies.sampled_from([timedelta(seconds=1), timedelta(seconds=15), 2 * LEASE]))
    def let_pass(self, time: timedelta) -> None:
        self.wait(time)

    @rule()
    def crash(self) -> None:
        self.run(self.shop.kill())
        for lane in self.lanes.values():
            lane.lasting.crash()
        self.open()

    @precondition(lambda self: self.lanes)
    @rule(which=WHICH, active=strategies.booleans())
    def pause_or_resume(self, which: int, *, active: bool) -> None:
        lane = self.chosen(which)[1]
        change = self.shop.lifecycle.resume if active else self.shop.lifecycle.pause
        self.run(change(TENANT, lane.name))
        if active:
            lane.resume()
        elif lane.active:
            lane.stop(State.PAUSED, now=self.clock.now())

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

    @rule(days=strategies.sampled_from([0, 20, 31]), limit=strategies.integers(1, 6))
    def keep_within_limits(self, days: int, limit: int) -> None:
        self.wait(timedelta(days=days))
        before = self.rows
        expected = {key for lane_id in self.lanes for key in self.surplus(before, lane_id, limit)}
        self.run(self.shop.keep_within(limit))
        ended = {
            row.id
            for row, former in zip(self.rows, before, strict=True)
            if (row.phase is None) != (former.phase is None)
        }
        happened(f"gave up after {days} days: {bool(ended)}")
        assert ended == expected
        for row in self.rows:
            if row.id in ended:
                assert (row.state, row.reason) == (DeliveryState.FAILED, FailureReason.BACKLOG)

    def surplus(self, rows: Sequence[Row], lane_id: LaneId, limit: int) -> Sequence[int]:
        """Return what a lane must give up: its oldest, but for what is under way."""
        pending = [row for row in rows if row.lane_id == lane_id and row.phase is not None]
        waiting = [row for row in pending if row.phase != Phase.LEASED]
        month_ago = self.clock.now() - timedelta(days=30)
        stop_time, stale = self.lanes[lane_id].stop_time, 0
        if stop_time is not None and stop_time <= month_ago:
            stale = sum(row.create_time < from_time(month_ago) for row in waiting)
        return [row.id for row in waiting[: max(0, len(pending) - limit, stale)]]

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


@dataclass(frozen=True)
class Redrawn:
    """Changes nothing of a subscription but its order."""

    ordered: bool

    def draft(self, former: Subscription) -> tuple[SubscriptionDraft, list[Violation]]:
        kept = {
            one.name: getattr(former, one.name)
            for one in fields(SubscriptionDraft)
            if one.name != "ordered"
        }
        return SubscriptionDraft(ordered=self.ordered, **kept), []

    def revise(self, former: Subscription, _: datetime) -> Subscription:
        return replace(former, ordered=self.ordered)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=EXAMPLES, stateful_step_count=40, deadline=None)
