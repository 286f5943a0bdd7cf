"""What the tests of repairs share."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from signalpost.domain.delivery import FailureReason
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, LaneId, SubscriptionId
from signalpost.domain.outcome import Outcome
from signalpost.domain.replay import Replay, ReplayOrder, ReplayScope
from signalpost.domain.verdict import GiveUp
from signalpost.ports import DeliveryQuery, PageRequest
from signalpost.ports.repair import Canceled, PendingQuery
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, claim, ended, event, subscription
from tests.contract.sqlite_file import in_writer

LATER = NOW + timedelta(minutes=5)
SUB = SubscriptionId("sub")


async def lane_with(store: Store, *event_ids: str, **more: Any) -> LaneId:
    """Create the subscription and publish events to it."""
    lane_id = (await store.create(subscription(**more))).lane_id
    await store.accept([event(event_id) for event_id in event_ids], now=NOW)
    return lane_id


async def failed_lane(store: Store, *event_ids: str, **more: Any) -> LaneId:
    """The same, with deliveries that were given up after an attempt."""
    lane_id = await lane_with(store, *event_ids, **more)
    while leases := await claim(store, lane_id):
        for lease in leases:
            over = GiveUp(FailureReason.EXHAUSTED)
            assert await store.record(ended(lease, over, outcome=Outcome.REJECTED), now=NOW)
    return lane_id


def order(scope: ReplayScope = ReplayScope.FAILED, **more: Any) -> ReplayOrder:
    fields: dict[str, Any] = {"start": NOW - timedelta(days=1), "end": LATER}
    return ReplayOrder(tenant_id=TENANT, subscription_id=SUB, scope=scope, **(fields | more))


async def begun(store: Store, ordered: ReplayOrder, *, now: datetime = LATER) -> Replay:
    return await store.repairs.begin_replay(ordered, request_id=None, now=now)


async def worked_off(
    store: Store, replay: Replay, *, limit: int = 100, now: datetime = LATER
) -> Replay:
    """Take a replay to its end."""
    while not replay.ended:
        page = await store.repairs.find_replayable(
            replay.order, after=replay.position, limit=limit, now=now
        )
        replay = (await store.repairs.queue_page(replay, page, now=now)).replay
    return replay


async def replayed(store: Store, ordered: ReplayOrder) -> int:
    return (await worked_off(store, await begun(store, ordered))).delivery_count


async def canceled(store: Store, *, now: datetime = LATER) -> Canceled:
    """Cancel all that is pending of the subscription; return how much the last page was."""
    query = PendingQuery(tenant_id=TENANT, subscription_id=SUB, filter=EventFilter(), end=LATER)
    after, waiting, under_way = None, 0, 0
    while True:
        page = await store.repairs.find_pending(query, after=after)
        found = await store.repairs.cancel([*page.under_way, *page.waiting], now=now)
        waiting, under_way = waiting + found.waiting, under_way + found.under_way
        if page.next_after is None:
            return Canceled(waiting, under_way)
        after = page.next_after


async def states(store: Store) -> dict[str, str]:
    """Return the state of each event's delivery."""
    page = await store.list_deliveries(DeliveryQuery(tenant_id=None), PageRequest(size=1000))
    return {found.event_id: found.state.name for found in page.items}


async def keys(store: Store) -> Sequence[DeliveryKey]:
    """Return the keys of all deliveries, the oldest first."""
    page = await store.list_deliveries(DeliveryQuery(tenant_id=None), PageRequest(size=1000))
    return [found.key for found in reversed(page.items)]


async def prune_oldest(store: Store) -> None:
    """Take the oldest event away and leave its deliveries."""
    oldest = "DELETE FROM events WHERE id = (SELECT min(id) FROM events) RETURNING id"
    await in_writer(store, oldest)
