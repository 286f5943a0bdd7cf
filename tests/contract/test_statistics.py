"""Statistics against a brute force over all deliveries and their attempts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from signalpost import failpoints
from signalpost.delivery.statistics import DeliveryStatistics, Statistics
from signalpost.domain.delivery import Attempt, Delivery, DeliveryState, FailureReason, Lease
from signalpost.domain.ids import LaneId, SubscriptionId, TenantId
from signalpost.domain.outcome import Outcome
from signalpost.domain.statistics import (
    LATENCY_BUCKETS,
    TIMED,
    Condition,
    Ended,
    Waiting,
    bucket_start,
    latency_bucket,
)
from signalpost.domain.subscription import State, Subscription
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports import DeliveryQuery, PageRequest, Pick
from signalpost.ports.statistics import StatisticsQuery
from signalpost.store import Store, statistics
from tests.contract.blank import lay_out
from tests.contract.counting import assert_all_is_counted
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, subscription
from tests.delivery.engine import Clock

TENANTS = ("acme", "globex")
OUTCOMES = [outcome for outcome in Outcome if outcome is not Outcome.INTERRUPTED]
Step = tuple[str, int, int]
KINDS = (
    *("publish", "publish", "claim", "claim", "record", "record", "record", "lose", "wait"),
    *("expire", "restart", "state", "throttle", "delete", "cancel"),
)
NUMBERS = st.integers(0, 1000)
STEPS = st.lists(st.tuples(st.sampled_from(KINDS), NUMBERS, NUMBERS), max_size=60)


@dataclass
class Lanes:
    """Throttles those that a test says."""

    throttled: set[LaneId] = field(default_factory=set)

    def is_throttled(self, lane_id: LaneId, *, now: datetime) -> bool:
        return lane_id in self.throttled


@dataclass
class History:
    """Does things to a store, and keeps what cannot be read off its deliveries."""

    path: Path
    clock: Clock = field(default_factory=Clock)
    lanes: Lanes = field(default_factory=Lanes)
    subscriptions: dict[LaneId, Subscription] = field(default_factory=dict)
    deleted: set[LaneId] = field(default_factory=set)
    held: list[Lease] = field(default_factory=list)
    leased: set[int] = field(default_factory=set)
    owed: dict[tuple[str, str, str], LaneId] = field(default_factory=dict)
    interrupted: dict[tuple[int, int], datetime] = field(default_factory=dict)
    published: int = 0

    async def open(self) -> None:
        self.store = await Store.open(lay_out(self.path / "x.db"), master_key=b"m" * 32)
        self.statistics = Statistics(self.store.counts, lanes=self.lanes, clock=self.clock)

    async def begin(self) -> None:
        await self.open()
        for tenant in TENANTS:
            for name in ("a", "b"):
                await self.subscribe(name, tenant=tenant)

    async def subscribe(self, name: str, *, tenant: str) -> None:
        stored = await self.store.create(subscription(name, tenant=tenant))
        self.subscriptions[stored.lane_id] = stored

    async def do(self, step: Step) -> None:
        kind, number, other = step
        await getattr(self, kind)(number, other)

    def lane(self, number: int) -> LaneId:
        return sorted(self.subscriptions)[number % len(self.subscriptions)]

    async def publish(self, number: int, other: int) -> None:
        tenant = TENANTS[other % 2]
        events = [event(f"e{self.published + n}", tenant=tenant) for n in range(number % 4)]
        self.published += len(events)
        for one in events:
            for lane_id in self.subscriptions.keys() - self.deleted:
                owner = self.subscriptions[lane_id]
                if owner.tenant_id == tenant:
                    self.owed[one.event_id, tenant, owner.subscription_id] = lane_id
        await self.store.accept(events, now=self.clock.now())

    async def claim(self, number: int, other: int) -> None:
        picks = [Pick(self.lane(number), 1 + other % 3)]
        now = self.clock.now()
        leases = await self.store.claim(picks, now=now, lease_until=now + LEASE)
        self.held += leases
        self.leased |= {lease.key for lease in leases}

    async def record(self, number: int, other: int) -> None:
        if not self.held:
            return
        lease = self.held.pop(number % len(self.held))
        outcome, now = OUTCOMES[other % len(OUTCOMES)], self.clock.now()
        latency = timedelta(microseconds=7919 * other)
        made = ended(lease, self.verdict(number, outcome), outcome=outcome, start=now - latency)
        made = replace(
            made,
            attempt=replace(made.attempt, result=replace(made.attempt.result, latency=latency)),
        )
        await self.store.record(made, now=now)
        await self.store.record(made, now=now)  # which changes nothing more
        self.leased.discard(lease.key)

    def verdict(self, number: int, outcome: Outcome) -> Verdict:
        if outcome is Outcome.SUCCEEDED:
            return Succeed()
        if number % 3 == 0:
            return GiveUp(FailureReason.EXHAUSTED)
        return RetryAt(self.clock.now() + timedelta(seconds=number))

    async def lose(self, number: int, other: int) -> None:
        """Let a worker vanish with its lease."""
        if self.held:
            self.held.pop(number % len(self.held))

    async def wait(self, number: int, other: int) -> None:
        self.clock.advance(seconds=number + other)

    async def expire(self, number: int, other: int) -> None:
        self.clock.advance(seconds=60)
        await self.store.rescue(now=self.clock.now(), limit=100)
        await self.note_interrupted()

    async def restart(self, number: int, other: int) -> None:
        await self.store.aclose()
        await self.open()
        await self.store.recover(now=self.clock.now())
        await self.note_interrupted()

    async def note_interrupted(self) -> None:
        self.held.clear()
        self.leased.clear()
        for delivery in await self.deliveries():
            for attempt in delivery.attempts:
                if attempt.result.outcome is Outcome.INTERRUPTED:
                    self.interrupted.setdefault((delivery.key, attempt.number), self.clock.now())

    async def state(self, number: int, other: int) -> None:
        lane_id = self.lane(number)
        if lane_id not in self.deleted:
            changed = replace(self.subscriptions[lane_id], state=State(1 + other % 3))
            stored = await self.store.replace(changed, now=self.clock.now())
            self.subscriptions[lane_id] = stored

    async def throttle(self, number: int, other: int) -> None:
        self.lanes.throttled ^= {self.lane(number)}

    async def delete(self, number: int, other: int) -> None:
        lane_id = self.lane(number)
        if lane_id not in self.deleted:
            gone = self.subscriptions[lane_id]
            await self.store.delete(
                gone.tenant_id, gone.subscription_id, etag=None, now=self.clock.now()
            )
            self.deleted.add(lane_id)
            # A namesake counts along with what was deleted.
            await self.subscribe(gone.subscription_id, tenant=gone.tenant_id)

    async def cancel(self, number: int, other: int) -> None:
        for lane_id in self.deleted:
            limit = 1 + number % 3
            await self.store.cancel_waiting(lane_id, limit=limit, now=self.clock.now())

    def lane_of(self, delivery: Delivery) -> LaneId:
        return self.owed[delivery.event_id, delivery.tenant_id, delivery.subscription_id]

    def condition(self, lane_id: LaneId) -> Condition:
        match self.subscriptions[lane_id].state:
            case State.PAUSED:
                return Condition.PAUSED
            case State.SUSPENDED:
                return Condition.SUSPENDED
        return Condition.THROTTLED if lane_id in self.lanes.throttled else Condition.FLOWING

    def end_of(self, delivery: Delivery, attempt: Attempt) -> datetime:
        interrupted = self.interrupted.get((delivery.key, attempt.number))
        return interrupted or attempt.start_time + attempt.result.latency

    async def deliveries(self) -> Sequence[Delivery]:
        every = DeliveryQuery(tenant_id=None)
        page = await self.store.list_deliveries(every, PageRequest(size=1000))
        assert page.next_after is None
        return [await self.store.get_delivery(found.key) for found in page.items]


def brute_force(
    history: History, every: Sequence[Delivery], query: StatisticsQuery, period: timedelta
) -> DeliveryStatistics:
    """Compute statistics from nothing but the deliveries themselves."""
    now = history.clock.now()
    start = bucket_start(now - period)
    found = [one for one in every if is_of(one, query)]
    lanes = {one.key: history.lane_of(one) for one in found}
    pending = [
        one
        for one in found
        if one.state is DeliveryState.PENDING and lanes[one.key] not in history.deleted
    ]
    waiting = dict.fromkeys(Condition, Waiting())
    for lane_id in {lanes[one.key] for one in pending}:
        of_lane = [one for one in pending if lanes[one.key] == lane_id]
        due = [
            one.next_attempt_time
            for one in of_lane
            if one.key not in history.leased and one.next_attempt_time is not None
        ]
        waiting[history.condition(lane_id)] += Waiting(
            deliveries=len(of_lane),
            subscriptions=1,
            oldest_due=min((moment for moment in due if moment <= now), default=None),
        )
    return DeliveryStatistics(
        start=start,
        end=now,
        ended=ended_since(history, found, start),
        waiting=waiting,
        oldest_pending=min((one.create_time for one in pending), default=None),
    )


def is_of(delivery: Delivery, query: StatisticsQuery) -> bool:
    return query.tenant_id in {None, delivery.tenant_id} and query.subscription_id in {
        None,
        delivery.subscription_id,
    }


def ended_since(history: History, found: Sequence[Delivery], start: datetime) -> Ended:
    states = [one.state for one in found if one.end_time is not None and one.end_time >= start]
    results = [
        attempt.result
        for one in found
        for attempt in one.attempts
        if history.end_of(one, attempt) >= start
    ]
    buckets = [latency_bucket(one.latency) for one in results if one.outcome in TIMED]
    return Ended(
        succeeded=states.count(DeliveryState.SUCCEEDED),
        failed=states.count(DeliveryState.FAILED),
        canceled=states.count(DeliveryState.CANCELED),
        attempts=len(results),
        failed_attempts=sum(one.outcome is not Outcome.SUCCEEDED for one in results),
        latencies=tuple(buckets.count(number) for number in range(LATENCY_BUCKETS)),
    )


QUERIES = [
    StatisticsQuery(tenant_id=None),
    StatisticsQuery(tenant_id=None, subscription_id=SubscriptionId("b")),
    StatisticsQuery(tenant_id=TenantId("acme")),
    StatisticsQuery(tenant_id=TenantId("acme"), subscription_id=SubscriptionId("a")),
]
PERIODS = [timedelta(minutes=5), timedelta(minutes=47), timedelta(days=30)]


@settings(max_examples=15)
@given(STEPS)
def test_statistics_are_those_of_a_brute_force(steps: list[Step]) -> None:
    async def compare(folder: str) -> None:
        history = History(Path(folder))
        await history.begin()
        try:
            for step in steps:
                await history.do(step)
            every = await history.deliveries()
            for query, period in product(QUERIES, PERIODS):
                found = await history.statistics.of(query, period=period)
                assert found == brute_force(history, every, query, period)
            await assert_all_is_counted(history.store)
        finally:
            await history.store.aclose()

    with TemporaryDirectory() as folder:
        asyncio.run(compare(folder))


EVERYTHING = StatisticsQuery(tenant_id=None)


async def all_ended(store: Store) -> Ended:
    return await store.counts.count_ended(EVERYTHING, start=NOW - timedelta(days=30), end=NOW)


async def test_what_is_rolled_back_is_not_counted(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    [lease] = await claim(store, lane_id)
    monkeypatch.setattr(failpoints, "_armed", {})
    failpoints.arm("outcome.before_commit:raise")
    with pytest.raises(failpoints.InjectedFault):
        await store.record(ended(lease), now=NOW)
    assert await all_ended(store) == Ended()
    assert [lane.deliveries for lane in await store.counts.waiting(EVERYTHING)] == [1]
    monkeypatch.setattr(failpoints, "_armed", {})
    await store.record(ended(lease), now=NOW)
    assert (await all_ended(store)).succeeded == 1
    assert await store.counts.waiting(EVERYTHING) == []


async def test_one_that_is_reopened_counts_as_pending_and_each_time_it_ends(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    for verdict in (GiveUp(FailureReason.EXHAUSTED), Succeed()):
        [lease] = await claim(store, lane_id)
        await store.record(ended(lease, verdict), now=NOW)
        await store.repairs.retry(lease.key, now=NOW)
        assert [lane.deliveries for lane in await store.counts.waiting(EVERYTHING)] == [1]
    found = await all_ended(store)
    assert (found.succeeded, found.failed, found.attempts) == (1, 1, 2)


async def test_old_counts_are_pruned_a_few_at_a_time_and_no_others(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event(f"e{n}") for n in range(4)], now=NOW)
    for days in range(4):
        now = NOW + timedelta(days=days)
        [lease] = await claim(store, lane_id, count=1, now=now)
        await store.record(ended(lease), now=now)
    before = bucket_start(NOW + timedelta(days=2))
    assert await store.counts.prune_statistics(before=before, limit=1) == 1
    assert await store.counts.prune_statistics(before=before, limit=9) == 1
    assert await store.counts.prune_statistics(before=before, limit=9) == 0
    left = await store.counts.count_ended(EVERYTHING, start=NOW, end=NOW + timedelta(days=3))
    assert left.succeeded == 2


async def test_many_lanes_are_counted_like_few(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lanes = [(await store.create(subscription(f"s{n}"))).lane_id for n in range(3)]
    await store.create(subscription("other", tenant="other"))
    await store.accept([event("e1"), event("e2", tenant="other")], now=NOW)
    for lane_id in lanes:
        [lease] = await claim(store, lane_id)
        await store.record(ended(lease), now=NOW)
    few = await store.counts.count_ended(StatisticsQuery(tenant_id=TENANT), start=NOW, end=NOW)
    monkeypatch.setattr(statistics, "_MOST_LANES_NAMED", 1)
    monkeypatch.setattr(statistics, "_FEW_PENDING", 0)
    assert few.succeeded == 3
    long = NOW - timedelta(days=30)
    assert (
        await store.counts.count_ended(StatisticsQuery(tenant_id=TENANT), start=long, end=NOW)
        == few
    )
    assert await store.counts.oldest_pending(StatisticsQuery(tenant_id=TENANT)) is None
    assert await store.counts.oldest_pending(StatisticsQuery(tenant_id=TenantId("other"))) == NOW
