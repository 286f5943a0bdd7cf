"""An owner whose lease another one took comes too late, whatever it says: no row is changed."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path

import pytest

from signalpost.domain.delivery import FailureReason, Lease
from signalpost.domain.outcome import Outcome
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed, Verdict
from signalpost.store import Store
from tests.contract.material import LEASE, NOW, claim, ended, event, subscription

AFTER = NOW + LEASE


async def taken_back(store: Store, _: Lease) -> None:
    await store.rescue(now=AFTER, limit=10)


async def another(store: Store, stale: Lease) -> Lease:
    """Return the lease that another one took of the same delivery."""
    await store.rescue(now=AFTER, limit=10)
    leases = await claim(store, stale.lane_id, now=AFTER)
    return next(lease for lease in leases if lease.key == stale.key)


async def taken_by_another(store: Store, stale: Lease) -> None:
    await another(store, stale)


async def taken_by_the_next_process(store: Store, stale: Lease) -> None:
    await store.recover(now=NOW)
    assert await claim(store, stale.lane_id)


async def to_be_retried(store: Store, stale: Lease) -> None:
    refused = ended(await another(store, stale), RetryAt(AFTER), outcome=Outcome.REJECTED)
    assert await store.record(refused, now=AFTER)


async def over(store: Store, stale: Lease) -> None:
    assert await store.record(ended(await another(store, stale)), now=AFTER)


WAYS = (taken_back, taken_by_another, taken_by_the_next_process, to_be_retried, over)
VERDICTS: tuple[tuple[Outcome, Verdict], ...] = (
    (Outcome.SUCCEEDED, Succeed()),
    (Outcome.REJECTED, RetryAt(NOW + timedelta(hours=1))),
    (Outcome.REJECTED, GiveUp(FailureReason.EXHAUSTED)),
)


def rows(path: Path) -> Sequence[str]:
    """Return every row of every table."""
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_what_a_stale_owner_says_changes_no_row_and_is_counted(
    store: Store, path: Path, way: Callable[[Store, Lease], Awaitable[None]], *, ordered: bool
) -> None:
    lane_id = (await store.create(subscription(ordered=ordered))).lane_id
    await store.accept([event("taken"), event("next")], now=NOW)
    [stale] = await claim(store, lane_id, count=1)
    await way(store, stale)
    before = rows(path)
    assert store.counts.totals.leases_lost == 0
    for count, (outcome, verdict) in enumerate(VERDICTS, start=1):
        assert await store.record(ended(stale, verdict, outcome=outcome), now=AFTER) is None
        assert rows(path) == before
        assert store.counts.totals.leases_lost == count
