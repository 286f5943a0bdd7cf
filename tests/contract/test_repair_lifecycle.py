"""Whatever is repaired, in whatever order, every delivery is in exactly one state."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import rule

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.errors import StateInvalid
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.replay import Replay, ReplayOrder, ReplayScope
from signalpost.ports.repair import PendingQuery
from tests.contract.material import NOW, TENANT
from tests.contract.test_lifecycle import TYPES, Expected, Lifecycle

FILTERS = strategies.sampled_from(
    [EventFilter(), *(EventFilter(event_types=frozenset({name})) for name in TYPES)]
)


class RepairLifecycle(Lifecycle):
    def chosen(self, number: int) -> tuple[DeliveryKey, Expected] | None:
        """Return one of the deliveries there are."""
        keys = sorted(self.expected)
        return (keys[number % len(keys)], self.expected[keys[number % len(keys)]]) if keys else None

    def kinds(self) -> dict[str, str]:
        """Return the type of each event."""
        return {found.event_id: found.event_type for found in self.all_deliveries()}

    @rule(number=strategies.integers(0, 1000))
    def retry(self, number: int) -> None:
        found = self.chosen(number)
        if found is None:
            return
        key, delivery = found
        gone = delivery.lane_id not in self.live
        with pytest.raises(StateInvalid) if gone else nullcontext():
            lane = self.run(self.store.repairs.retry(key, now=self.now))
            assert lane is not None
            assert lane.lane_id == delivery.lane_id
        if not gone:
            self.reopen(delivery)

    def reopen(self, delivery: Expected) -> None:
        delivery.to_cancel = False
        if delivery.state is not DeliveryState.PENDING:
            delivery.state, delivery.tries = DeliveryState.PENDING, 0

    @rule(lane_id=Lifecycle.lanes, chosen=FILTERS)
    def cancel(self, lane_id: LaneId, chosen: EventFilter) -> None:
        query = PendingQuery(
            tenant_id=TENANT,
            subscription_id=self.live[lane_id].subscription_id,
            filter=chosen,
            end=NOW + timedelta(days=1),
        )
        repairs, after, more = self.store.repairs, None, True
        while more:
            page = self.run(repairs.find_pending(query, after=after))
            self.run(repairs.cancel([*page.waiting, *page.under_way], now=self.now))
            after, more = page.next_after, page.next_after is not None
        kinds = {found.key: found.event_type for found in self.all_deliveries()}
        for key, delivery in self.expected.items():
            if delivery.lane_id == lane_id and not chosen.event_types - {kinds[key]}:
                delivery.to_cancel = delivery.lease is not None
                if delivery.state is DeliveryState.PENDING and delivery.lease is None:
                    delivery.state = DeliveryState.CANCELED

    @rule(
        lane_id=Lifecycle.lanes,
        scope=strategies.sampled_from(list(ReplayScope)),
        chosen=FILTERS,
        disturbance=strategies.sampled_from(["none", "restart"]),
    )
    def replay(
        self, lane_id: LaneId, scope: ReplayScope, chosen: EventFilter, disturbance: str
    ) -> None:
        subscription = self.live[lane_id]
        order = ReplayOrder(
            tenant_id=TENANT,
            subscription_id=subscription.subscription_id,
            scope=scope,
            filter=chosen,
            start=NOW - timedelta(days=1),
            end=NOW + timedelta(days=1),
        )
        repairs = self.store.repairs
        replay = self.run(repairs.begin_replay(order, request_id=None, now=self.now))
        known = set(self.expected)
        while not replay.ended:
            if disturbance == "restart":
                self.disturb(disturbance)
                [replay] = self.run(self.store.repairs.running_replays())
            replay = self.step(replay)
        self.follow_replay(order, lane_id, known)

    def step(self, replay: Replay) -> Replay:
        repairs = self.store.repairs
        page = self.run(
            repairs.find_replayable(replay.order, after=replay.position, limit=2, now=self.now)
        )
        moved = self.run(repairs.queue_page(replay, page, now=self.now))
        # What is said twice is done once.
        again = self.run(repairs.queue_page(replay, page, now=self.now))
        assert again.replay == moved.replay
        return moved.replay

    def follow_replay(self, order: ReplayOrder, lane_id: LaneId, known: set[Any]) -> None:
        own = self.live[lane_id].filter
        for found in self.all_deliveries():
            matches = all(
                one.matches(found.event_type, found.resource) for one in (order.filter, own)
            )
            if found.key not in known:
                assert matches
                assert order.scope is not ReplayScope.FAILED
                self.expected[found.key] = Expected(found.key, lane_id)
                self.owed.append((found.event_id, found.subscription_id))
                continue
            delivery = self.expected[found.key]
            if matches and delivery.lane_id == lane_id and order.scope.chooses(delivery.state):
                self.reopen(delivery)


TestRepairLifecycle = RepairLifecycle.TestCase
TestRepairLifecycle.settings = settings(max_examples=10, stateful_step_count=30)
