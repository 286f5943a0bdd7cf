"""What is over is removed after its retention, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Connection

from signalpost.domain.delivery import FailureReason, Lease
from signalpost.domain.errors import NotFound
from signalpost.domain.ids import DeliveryKey, LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.retention import Retention
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports import DeliveryQuery, EventQuery, PageRequest
from signalpost.ports.retention import Prunable
from signalpost.store import Store, retention
from signalpost.store.retention import pruned_to
from tests.contract.material import NOW, RETENTION, TENANT, claim, ended, event, prune, subscription
from tests.contract.sqlite_file import in_writer

WEEK = NOW + timedelta(days=7, seconds=1)
MONTH = NOW + timedelta(days=30, seconds=1)


async def events_left(store: Store) -> set[str]:
    page = await store.list_events(EventQuery(tenant_id=None), PageRequest(size=1000))
    return {found.event_id for found in page.items}


async def deliveries_left(store: Store) -> list[tuple[str, str, str]]:
    query = DeliveryQuery(tenant_id=None)
    page = await store.list_deliveries(query, PageRequest(size=1000))
    return sorted((d.event_id, d.subscription_id, d.state.name) for d in page.items)


async def lane(store: Store, name: str) -> LaneId:
    return (await store.create(subscription(name))).lane_id


async def end(
    store: Store, lane_id: LaneId, verdict: Verdict, *, at: datetime = NOW
) -> Sequence[Lease]:
    leases = await claim(store, lane_id, now=at)
    outcome = Outcome.SUCCEEDED if isinstance(verdict, Succeed) else Outcome.REJECTED
    for lease in leases:
        assert await store.record(ended(lease, verdict, outcome=outcome), now=at)
    return leases


FAILED = GiveUp(FailureReason.EXHAUSTED)


async def test_what_was_delivered_goes_after_its_retention_with_all_that_belongs_to_it(
    store: Store,
) -> None:
    [lease] = await _delivered(store, "e1")
    assert await prune(store, now=NOW + RETENTION.delivered - timedelta(seconds=1)) == 0
    assert await deliveries_left(store) == [("e1", "sub", "SUCCEEDED")]
    assert await prune(store, now=WEEK) == 1
    assert not await deliveries_left(store)
    assert not await events_left(store)
    with pytest.raises(NotFound):
        await store.get_delivery(lease.key)
    assert await in_writer(store, "SELECT count(*) FROM attempts") == 0


async def _delivered(store: Store, *event_ids: str) -> Sequence[Lease]:
    lane_id = await lane(store, "sub")
    await store.accept([event(event_id) for event_id in event_ids], now=NOW)
    return await end(store, lane_id, Succeed())


async def test_after_that_the_same_id_is_a_new_event(store: Store) -> None:
    await _delivered(store, "e1")
    [known] = await store.accept([event("e1")], now=WEEK)
    assert (known.event_id, known.duplicate, known.delivery_count) == ("e1", True, 1)
    await prune(store, now=WEEK)
    [again] = await store.accept([event("e1", content='{"other":1}')], now=WEEK)
    assert (again.duplicate, again.delivery_count) == (False, 1)


async def test_an_event_is_known_with_its_first_count_while_any_of_it_is_kept(
    store: Store,
) -> None:
    taken, failed = await lane(store, "taken"), await lane(store, "failed")
    await store.accept([event("e1")], now=NOW)
    await end(store, taken, Succeed())
    await end(store, failed, FAILED)
    assert await prune(store, now=WEEK) == 1
    [known] = await store.accept([event("e1")], now=MONTH - timedelta(seconds=1))
    assert (known.duplicate, known.delivery_count) == (True, 2)


async def test_a_failure_is_kept_longer_and_keeps_its_event(store: Store) -> None:
    taken, failed = await lane(store, "taken"), await lane(store, "failed")
    await store.accept([event("e1"), event("e2")], now=NOW)
    await end(store, taken, Succeed())
    [first, _] = await end(store, failed, FAILED)
    await prune(store, now=WEEK)
    assert await deliveries_left(store) == [("e1", "failed", "FAILED"), ("e2", "failed", "FAILED")]
    assert await events_left(store) == {"e1", "e2"}
    assert len((await store.get_delivery(first.key)).attempts) == 1
    assert await prune(store, now=MONTH) == 2
    assert not await deliveries_left(store)
    assert not await events_left(store)


async def test_what_is_pending_is_kept_however_old_it_is(store: Store) -> None:
    waits, under_way = await lane(store, "waits"), await lane(store, "under-way")
    await store.accept([event("e1")], now=NOW)
    await end(store, waits, RetryAt(MONTH))
    assert len(await claim(store, under_way)) == 1
    assert await prune(store, now=MONTH) == 0
    assert await deliveries_left(store) == [
        ("e1", "under-way", "PENDING"),
        ("e1", "waits", "PENDING"),
    ]
    [lease] = await claim(store, waits, now=MONTH)
    assert await store.record(ended(lease), now=MONTH)


async def test_the_end_counts_and_not_the_beginning(store: Store) -> None:
    lane_id = await lane(store, "sub")
    await store.accept([event("e1")], now=NOW)
    await end(store, lane_id, Succeed(), at=WEEK)
    assert await prune(store, now=WEEK + timedelta(days=6)) == 0
    assert await prune(store, now=WEEK + timedelta(days=7)) == 1


async def test_canceled_ones_are_kept_as_long_as_delivered_ones(store: Store) -> None:
    lane_id = await lane(store, "sub")
    await store.accept([event("e1")], now=NOW)
    await store.delete(TENANT, subscription().subscription_id, etag=None, now=NOW)
    await store.cancel_waiting(lane_id, limit=9, now=NOW)
    assert await prune(store, now=NOW + timedelta(days=6)) == 0
    assert await prune(store, now=WEEK) == 1


async def test_events_that_matched_nothing_are_kept_and_listed_for_as_long(store: Store) -> None:
    await store.accept([event("e1")], now=NOW)
    await store.accept([event("e2")], now=WEEK)
    assert await prune(store, now=NOW + timedelta(days=6)) == 0
    assert await events_left(store) == {"e1", "e2"}
    assert await prune(store, now=WEEK) == 1
    assert await events_left(store) == {"e2"}


async def test_an_event_outlives_failures_that_are_kept_for_less(store: Store) -> None:
    lane_id = await lane(store, "sub")
    await store.accept([event("e1")], now=NOW)
    await end(store, lane_id, FAILED)
    keep = Retention(delivered=timedelta(days=7), failed=timedelta(days=1))
    day = NOW + timedelta(days=1, seconds=1)
    assert await prune(store, now=day, keep=keep) == 1
    assert (await deliveries_left(store), await events_left(store)) == ([], {"e1"})
    assert (await store.accept([event("e1")], now=day))[0].duplicate
    assert await prune(store, now=WEEK, keep=keep) == 1
    assert not await events_left(store)


async def test_what_was_reopened_since_it_was_found_is_kept(store: Store) -> None:
    await _delivered(store, "e1", "e2")
    found = await store.upkeep.find_expired(
        Prunable.DELIVERIES, after=0, retention=RETENTION, now=WEEK
    )
    assert len(found.rows) == 2
    await store.repairs.retry(DeliveryKey(min(found.rows)), now=WEEK)
    pruned = await store.upkeep.prune(
        Prunable.DELIVERIES, found.rows, retention=RETENTION, now=WEEK
    )
    assert pruned == 1
    assert await deliveries_left(store) == [("e1", "sub", "PENDING")]
    assert await events_left(store) == {"e1"}


async def test_a_stretch_is_bounded_in_what_it_looks_at_and_removes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_LOOKED_AT", 10)
    monkeypatch.setattr(retention, "MOST_REMOVED", 6)
    await _delivered(store, *(f"e{number:02}" for number in range(12)))
    lane_id = await lane(store, "later")
    await store.accept([event(f"f{number:02}") for number in range(12)], now=NOW)
    assert len(await claim(store, lane_id)) == 12
    sizes, after, more = [], 0, True
    while more:
        found = await store.upkeep.find_expired(
            Prunable.DELIVERIES, after=after, retention=RETENTION, now=WEEK
        )
        assert found.reached > after
        after, more = found.reached, found.more
        sizes.append(len(found.rows))
    # Each delivery weighs as much as itself and its one attempt; pending ones are passed by.
    assert sizes == [3, 3, 3, 3, 0, 0, 0]


async def test_the_marks_tell_since_when_nothing_is_missing(store: Store) -> None:
    taken, failed = await lane(store, "taken"), await lane(store, "failed")
    await store.accept([event("e1")], now=NOW)
    await end(store, taken, Succeed())
    await end(store, failed, Succeed())
    await store.accept([event("e2")], now=NOW)
    await end(store, taken, Succeed())
    await end(store, failed, FAILED)
    await store.accept([event("e3")], now=MONTH)
    first, second = await rows_by_id(store, "e1", "e2")
    assert await marks(store) == [0, 0]
    await prune(store, now=WEEK)
    assert await marks(store) == [second, first]
    await prune(store, now=MONTH)
    assert await marks(store) == [second, second]
    assert await events_left(store) == {"e3"}


async def rows_by_id(store: Store, *event_ids: str) -> list[int]:
    def read(conn: Connection) -> dict[str, int]:
        rows = conn.exec_driver_sql("SELECT event_id, id FROM events")
        return {row.event_id: row.id for row in rows}

    found = await store._for_callers.run(read)
    return [found[event_id] for event_id in event_ids]


async def marks(store: Store) -> list[int]:
    return [await store._for_callers.run(pruned_to, kind) for kind in Prunable]
