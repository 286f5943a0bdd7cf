"""Whatever happens, in whatever order, every delivery is in exactly one state."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings, strategies
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from signalpost.domain.delivery import Delivery, DeliveryState, FailureReason, Lease
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import Subscription
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports import DeliveryQuery, PageRequest, Pick
from signalpost.store import Store
from tests.contract.blank import lay_out
from tests.contract.counting import assert_all_is_counted
from tests.contract.material import LEASE, NOW, TENANT, ended, event, subscription

T = TypeVar("T")

TYPES = ("account.connected", "quota.exceeded")
CLEARLY_LATER = timedelta(seconds=0.5)
VERDICTS = strategies.sampled_from(
    [
        Succeed(),
        GiveUp(FailureReason.EXHAUSTED),
        RetryAt(NOW),
        RetryAt(NOW + 3 * LEASE),
        RetryAt(NOW, charged=False),
    ]
)


@dataclass
class Expected:
    """What must be true of a delivery."""

    key: DeliveryKey
    lane_id: LaneId
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    tries: int = 0
    crashes: int = 0
    token: int = 0
    lease: Lease | None = None
    claimed: datetime = NOW
    expires: datetime = NOW
    to_cancel: bool = False


class Lifecycle(RuleBasedStateMachine):
    lanes = Bundle("lanes")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = tempfile.TemporaryDirectory()
        self.now = NOW
        self.live: dict[LaneId, Subscription] = {}
        self.expected: dict[DeliveryKey, Expected] = {}
        self.owed: list[tuple[str, str]] = []
        self.accepted = 0
        self.created = 0
        self.open()

    def open(self) -> None:
        url = lay_out(Path(self.folder.name) / "store.db")
        self.store = self.run(Store.open(url, master_key=b"m" * 32))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.store.aclose())
        self.runner.close()
        self.folder.cleanup()

    def all_deliveries(self) -> list[Delivery]:
        query, after = DeliveryQuery(tenant_id=None), None
        found: list[Delivery] = []
        while True:
            page = self.run(self.store.list_deliveries(query, PageRequest(size=25, after=after)))
            found += page.items
            after = page.next_after
            if after is None:
                return found

    @initialize(target=lanes)
    def begin(self) -> LaneId:
        lane_id = self.subscribed(())
        self.accept_kinds(TYPES)
        return lane_id

    @rule(target=lanes, types=strategies.sampled_from([(), TYPES[:1], TYPES[1:]]))
    def subscribe(self, types: tuple[str, ...]) -> LaneId:
        return self.subscribed(types)

    def subscribed(self, types: tuple[str, ...]) -> LaneId:
        chosen = EventFilter(event_types=frozenset(types))
        # The names of deleted ones are used again.
        taken = {found.subscription_id for found in self.live.values()}
        name = next(name for n in range(100) if (name := f"sub-{n}") not in taken)
        stored = self.run(self.store.create(subscription(name, filter=chosen)))
        self.live[stored.lane_id] = stored
        self.created = stored.lane_id
        return stored.lane_id

    @rule(kinds=strategies.lists(strategies.sampled_from(TYPES), min_size=1, max_size=3))
    def accept(self, kinds: list[str]) -> None:
        self.accept_kinds(kinds)

    def accept_kinds(self, kinds: Sequence[str]) -> None:
        known = {found.key for found in self.all_deliveries()}
        first, self.accepted = self.accepted, self.accepted + len(kinds)
        events = [event(f"e{n}", event_type=kind) for n, kind in enumerate(kinds, start=first)]
        answers = self.run(self.store.accept(events, now=self.now))
        for accepted, answer in zip(events, answers, strict=True):
            receivers = {
                lane_id: found.subscription_id
                for lane_id, found in self.live.items()
                if found.filter.matches(accepted.event_type, accepted.resource)
            }
            assert answer.delivery_count == len(receivers)
            assert {lane.lane_id for lane in answer.lanes} == set(receivers)
            self.owed += [(accepted.event_id, name) for name in receivers.values()]
        lane_of = {found.subscription_id: lane_id for lane_id, found in self.live.items()}
        for found in self.all_deliveries():
            if found.key not in known:
                self.expected[found.key] = Expected(found.key, lane_of[found.subscription_id])

    @rule(
        target=leases,
        verdicts=strategies.lists(strategies.none() | VERDICTS, min_size=4, max_size=9),
    )
    def work(self, verdicts: list[Verdict | None]) -> Any:
        """Attempt what is due; without a verdict, an attempt stays under way."""
        leases = self.claim(count=3)
        for lease, verdict in zip(leases, verdicts, strict=False):
            if verdict is not None:
                self.record(lease, verdict)
        return multiple(*leases)

    def claim(self, count: int) -> Sequence[Lease]:
        picks = [Pick(LaneId(number), count) for number in range(1, self.created + 1)]
        until = self.now + LEASE
        leases = self.run(self.store.claim(picks, now=self.now, lease_until=until))
        for lease in leases:
            assert lease.lane_id in self.live
            delivery = self.expected[lease.key]
            assert delivery.state is DeliveryState.PENDING
            assert delivery.lease is None
            assert lease.token > delivery.token
            assert (lease.number, lease.tries) == (delivery.attempts + 1, delivery.tries)
            assert (lease.lane_id, lease.due <= self.now) == (delivery.lane_id, True)
            delivery.lease, delivery.token, delivery.expires = lease, lease.token, until
            delivery.claimed = self.now
        return leases

    @rule(lease=leases, verdict=VERDICTS)
    def come_late(self, lease: Lease, verdict: Verdict) -> None:
        self.record(lease, verdict)

    def record(self, lease: Lease, verdict: Verdict) -> None:
        delivery = self.expected[lease.key]
        outcome = Outcome.SUCCEEDED if verdict == Succeed() else Outcome.REJECTED
        attempt = ended(lease, verdict, outcome=outcome, start=self.now)
        stored = self.run(self.store.record(attempt, now=self.now))
        assert (stored is not None) == (delivery.lease == lease)
        if stored:
            self.follow(delivery, verdict)

    def follow(self, delivery: Expected, verdict: Verdict) -> None:
        delivery.lease = None
        delivery.attempts += 1
        delivery.crashes = 0
        if isinstance(verdict, Succeed):
            delivery.state = DeliveryState.SUCCEEDED
        elif delivery.to_cancel or delivery.lane_id not in self.live:
            delivery.state = DeliveryState.CANCELED
        elif isinstance(verdict, GiveUp):
            delivery.state = DeliveryState.FAILED
        else:
            delivery.tries += verdict.charged

    @rule(disturbance=strategies.sampled_from(["wait", "expire", "crash", "restart"]))
    def disturb(self, disturbance: str) -> None:
        match disturbance:
            case "wait":
                self.now += timedelta(seconds=1)
                self.rescue()
            case "expire":
                self.now += LEASE
                self.rescue()
            case "crash":
                self.recover()
            case "restart":
                self.run(self.store.aclose())
                self.open()
                self.recover()

    def rescue(self) -> None:
        lanes = self.run(self.store.rescue(now=self.now, limit=100))
        expired = [
            delivery
            for delivery in self.expected.values()
            if delivery.lease is not None and delivery.expires <= self.now
        ]
        affected = {found.lane_id for found in expired} & self.live.keys()
        self.interrupt(expired)
        assert {lane.lane_id for lane in lanes} == affected

    def recover(self) -> None:
        leased = [found for found in self.expected.values() if found.lease is not None]
        assert self.run(self.store.recover(now=self.now)) == len(leased)
        self.interrupt(leased)

    def interrupt(self, under_way: Sequence[Expected]) -> None:
        """Of those under way in three crashes in a row, the last claimed by far goes no more."""
        suspects = [found for found in under_way if found.crashes >= 2]
        last = max(suspects, key=lambda found: (found.claimed, found.key), default=None)
        if last is not None:
            others = suspects if last.crashes >= 4 else under_way
            clear = last.claimed - CLEARLY_LATER
            if any(found is not last and found.claimed > clear for found in others):
                last = None
        for delivery in under_way:
            crashes = delivery.crashes + 1
            self.follow(delivery, RetryAt(self.now, charged=False))
            delivery.crashes = crashes
        if last is not None:
            last.crashes = 0
            if last.state is DeliveryState.PENDING:
                last.state = DeliveryState.FAILED

    @rule(lane_id=consumes(lanes), limit=strategies.integers(1, 5))
    def delete(self, lane_id: LaneId, limit: int) -> None:
        gone = self.live.pop(lane_id)
        self.run(self.store.delete(TENANT, gone.subscription_id, etag=None, now=self.now))
        while self.run(self.store.cancel_waiting(lane_id, limit=limit, now=self.now)):
            pass
        for delivery in self.expected.values():
            waits = delivery.state is DeliveryState.PENDING and delivery.lease is None
            if delivery.lane_id == lane_id and waits:
                delivery.state = DeliveryState.CANCELED

    @invariant()
    def every_pair_is_in_exactly_one_state(self) -> None:
        found = self.all_deliveries()
        pairs = [(delivery.event_id, delivery.subscription_id) for delivery in found]
        assert sorted(pairs) == sorted(self.owed)
        for delivery in found:
            expected = self.expected[delivery.key]
            assert (delivery.state, delivery.attempt_count) == (expected.state, expected.attempts)
            pending = delivery.state is DeliveryState.PENDING
            assert (delivery.next_attempt_time is not None) == pending
            assert (delivery.end_time is None) == pending

    @invariant()
    def all_is_counted(self) -> None:
        self.run(assert_all_is_counted(self.store))

    @invariant()
    def what_waits_is_in_the_backlog(self) -> None:
        waiting = {
            delivery.lane_id
            for delivery in self.expected.values()
            if delivery.state is DeliveryState.PENDING and delivery.lease is None
        }
        assert {found.lane.lane_id for found in self.run(self.store.backlogs())} == waiting


TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=20, stateful_step_count=40)
