"""Ending what is pending."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from signalpost.domain.delivery import FailureReason
from signalpost.domain.errors import NotFound
from signalpost.domain.filter import EventFilter
from signalpost.domain.outcome import Outcome
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.ports.repair import Canceled, PendingQuery
from signalpost.store import Store, cancellation
from tests.contract.lines import is_sound, standing
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, subscription
from tests.contract.repairing import LATER, SUB, canceled, keys, lane_with, states

NOTHING = Canceled(0, 0)


@pytest.mark.parametrize(
    ("verdict", "state"),
    [
        (Succeed(), "SUCCEEDED"),
        (RetryAt(LATER), "CANCELED"),
        (RetryAt(NOW, charged=False), "CANCELED"),
        (GiveUp(FailureReason.EXHAUSTED), "CANCELED"),
    ],
)
async def test_an_attempt_under_way_still_ends_and_only_a_success_counts(
    store: Store, verdict: Verdict, state: str
) -> None:
    lane_id = await lane_with(store, "e1", "e2")
    [lease] = await claim(store, lane_id, count=1)
    assert await canceled(store) == Canceled(waiting=1, under_way=1)
    assert await states(store) == {"e1": "PENDING", "e2": "CANCELED"}
    assert await canceled(store) == NOTHING
    assert await store.record(ended(lease, verdict), now=NOW)
    assert await states(store) == {"e1": state, "e2": "CANCELED"}
    found = await store.get_delivery(lease.key)
    assert (found.failure_reason, len(found.attempts)) == (FailureReason.NONE, 1)
    assert not await claim(store, lane_id, now=LATER)


@pytest.mark.parametrize("way", ["rescue", "recover"])
async def test_an_attempt_that_a_crash_cut_short_is_canceled(store: Store, way: str) -> None:
    lane_id = await lane_with(store, "e1")
    await claim(store, lane_id)
    assert (await canceled(store)).under_way == 1
    if way == "rescue":
        await store.rescue(now=NOW + LEASE, limit=9)
    else:
        await store.recover(now=NOW)
    assert await states(store) == {"e1": "CANCELED"}


async def test_what_ended_and_what_is_of_others_stays(store: Store) -> None:
    lane_id = await lane_with(store, "e1")
    [lease] = await claim(store, lane_id)
    assert await store.record(ended(lease), now=NOW)
    other = (await store.create(subscription("other"))).lane_id
    await store.accept([event("e2")], now=NOW)
    assert (await canceled(store)).waiting == 1
    assert len(await claim(store, other)) == 1
    assert (await store.get_delivery(lease.key)).state.name == "SUCCEEDED"


async def test_pages_go_through_everything_in_the_order_in_which_it_is_due(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "SCAN_LIMIT", 3)
    await lane_with(store, *(f"e{number}" for number in range(8)))
    query = PendingQuery(
        tenant_id=TENANT, subscription_id=SUB, filter=EventFilter(), end=NOW + timedelta(days=1)
    )
    found, after = [], None
    while True:
        page = await store.repairs.find_pending(query, after=after)
        found.append(list(page.waiting))
        after = page.next_after
        if after is None:
            break
    assert [len(page) for page in found] == [0, 3, 3, 2]
    assert [key for page in found for key in page] == list(await keys(store))


async def test_what_was_queued_later_stays(store: Store) -> None:
    await lane_with(store, "e1")
    await store.accept([event("late")], now=LATER)
    assert (await canceled(store)).waiting == 1
    assert await states(store) == {"e1": "CANCELED", "late": "PENDING"}


async def test_of_an_ordered_lane_the_next_goes_forward(store: Store, path: Path) -> None:
    lane_id = await lane_with(store, "e1", "e2", "e3", ordered=True)
    first, second, third = await keys(store)
    await store.repairs.cancel([first], now=NOW)
    [line] = standing(path).values()
    assert is_sound(line)
    [lease] = await claim(store, lane_id)
    assert lease.key == second
    assert await canceled(store) == Canceled(waiting=1, under_way=1)
    assert await store.record(ended(lease, RetryAt(NOW), outcome=Outcome.REJECTED), now=NOW)
    assert not await claim(store, lane_id)
    assert not standing(path)
    await store.repairs.retry(third, now=NOW)
    await store.repairs.retry(first, now=NOW)
    [line] = standing(path).values()
    assert is_sound(line)
    [lease] = await claim(store, lane_id)
    assert lease.key == first


async def test_an_unknown_subscription_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        await canceled(store)
    with pytest.raises(NotFound):
        await store.repairs.stop_replay(TENANT, SUB, now=NOW)
