"""Whatever happens, an ordered lane hands out what is next, and in the end everything."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signalpost.domain.delivery import Delivery, DeliveryState, FailureReason, Lease
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import State
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports import DeliveryQuery, PageRequest
from signalpost.store import Store, subscriptions
from tests.contract.blank import lay_out
from tests.contract.lines import is_sound, standing
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, subscription
from tests.contract.sqlite_file import KEY

T = TypeVar("T")

RETRY_AFTER = (timedelta(), timedelta(seconds=1), 3 * LEASE)
VERDICTS = strategies.sampled_from(
    [Succeed(), GiveUp(FailureReason.EXHAUSTED), *(RetryAt(NOW + delay) for delay in RETRY_AFTER)]
)
BIT_BY_BIT = 3
"""Deliveries that a change of order arranges at once."""


class OrderedLane(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "store.db"
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(subscriptions, "_CHUNK", BIT_BY_BIT)
        self.now = NOW
        self.accepted = 0
        self.position = ""
        self.under_way: dict[DeliveryKey, Lease] = {}
        self.open()
        self.stored = self.run(self.store.create(subscription(ordered=True)))

    def open(self) -> None:
        self.store = self.run(Store.open(lay_out(self.path), master_key=KEY))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    @property
    def lane_id(self) -> LaneId:
        return self.stored.lane_id

    @property
    def arranged(self) -> bool:
        return not self.run(self.store.unarranged_lanes())

    def deliveries(self, *states: DeliveryState) -> list[Delivery]:
        """Return them in the order of acceptance."""
        query = DeliveryQuery(tenant_id=TENANT, states=frozenset(states))
        page = self.run(self.store.list_deliveries(query, PageRequest(size=1000)))
        return list(reversed(page.items))

    @rule(resources=strategies.lists(strategies.sampled_from("ab"), min_size=1, max_size=5))
    def accept(self, resources: list[str]) -> None:
        first, self.accepted = self.accepted, self.accepted + len(resources)
        events = [event(f"e{n}", resource=r) for n, r in enumerate(resources, start=first)]
        self.run(self.store.accept(events, now=self.now))

    @rule(verdicts=strategies.lists(strategies.none() | VERDICTS, min_size=3, max_size=3))
    def work(self, verdicts: list[Verdict | None]) -> None:
        """Attempt what may go; without a verdict, an attempt stays under way."""
        leases = self.claim(count=len(verdicts))
        for lease, verdict in zip(leases, verdicts, strict=False):
            if verdict is not None:
                self.record(lease, verdict)

    def claim(self, count: int) -> Sequence[Lease]:
        pending = self.deliveries(DeliveryState.PENDING)
        leases = self.run(claim(self.store, self.lane_id, count=count, now=self.now))
        if leases and self.stored.ordered:
            assert self.arranged
        resources = {found.key: found.resource for found in pending}
        for lease in leases:
            resource = resources[lease.key]
            if self.stored.ordered:
                assert all(resources[key] != resource for key in self.under_way)
                assert lease.key == min(key for key, r in resources.items() if r == resource)
            self.under_way[lease.key] = lease
        return leases

    @precondition(lambda self: self.under_way)
    @rule(data=strategies.data(), verdict=VERDICTS)
    def end(self, data: strategies.DataObject, verdict: Verdict) -> None:
        key = data.draw(strategies.sampled_from(sorted(self.under_way)))
        self.record(self.under_way[key], verdict)

    def record(self, lease: Lease, verdict: Verdict) -> None:
        outcome = Outcome.SUCCEEDED if verdict == Succeed() else Outcome.REJECTED
        attempt = ended(lease, verdict, outcome=outcome, start=self.now)
        recorded = self.run(self.store.record(attempt, now=self.now))
        assert recorded is not None
        del self.under_way[lease.key]

    @rule(restart=strategies.booleans())
    def crash(self, *, restart: bool) -> None:
        if restart:
            self.run(self.store.aclose())
            self.open()
        assert self.run(self.store.recover(now=self.now)) == len(self.under_way)
        self.under_way.clear()

    @rule()
    def expire(self) -> None:
        self.now += LEASE
        self.run(self.store.rescue(now=self.now, limit=100))
        self.under_way.clear()

    @rule()
    def change_order(self) -> None:
        self.replace(ordered=not self.stored.ordered)

    @rule()
    def pause_or_resume(self) -> None:
        other = {State.ACTIVE: State.PAUSED, State.PAUSED: State.ACTIVE}
        self.replace(state=other[self.stored.state])

    def replace(self, **changes: Any) -> None:
        changed = replace(self.stored, **changes)
        self.stored = self.run(self.store.replace(changed, now=self.now))

    @rule(again=strategies.booleans())
    def arrange(self, *, again: bool) -> None:
        """Arrange a little more, from where it stopped the last time or from the start."""
        after = "" if again else self.position
        reached = self.store.arrange(self.lane_id, after=after, limit=BIT_BY_BIT, now=self.now)
        self.position = self.run(reached) or ""

    @rule(data=strategies.data())
    def reopen(self, data: strategies.DataObject) -> None:
        over = self.deliveries(DeliveryState.SUCCEEDED, DeliveryState.FAILED)
        if over:
            chosen = data.draw(strategies.sampled_from(over))
            self.run(self.store.repairs.retry(chosen.key, now=self.now))

    @invariant()
    def every_line_is_sound(self) -> None:
        assert all(map(is_sound, standing(self.path).values()))

    def teardown(self) -> None:
        """Deliver everything: nothing may be left behind."""
        self.crash(restart=True)
        self.replace(state=State.ACTIVE)
        while not self.arranged:
            self.arrange(again=False)
        self.now += 4 * LEASE
        while leases := self.claim(count=3):
            for lease in leases:
                self.record(lease, Succeed())
        assert not self.deliveries(DeliveryState.PENDING)
        self.run(self.store.aclose())
        self.runner.close()
        self.folder.cleanup()
        self.patch.undo()


TestOrderedLane = OrderedLane.TestCase
TestOrderedLane.settings = settings(max_examples=20, stateful_step_count=30)
