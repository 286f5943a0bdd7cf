"""Repairs of SQLite files go through much, and must go through it by an index."""

from __future__ import annotations

import pytest

from signalpost.domain.replay import ReplayScope
from signalpost.store import Store, cancellation
from tests.contract.material import event
from tests.contract.repairing import LATER, canceled, failed_lane, keys, order, replayed
from tests.contract.statements import executed
from tests.contract.test_sqlite import plan


async def test_repairs_are_searched_for_by_an_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "SCAN_LIMIT", 1)
    await store.accept([event("before")], now=LATER)
    await failed_lane(store, "e1", "e2", ordered=True)
    [key, *_] = await keys(store)
    seen = await executed(store)
    await store.repairs.retry(key, now=LATER)
    for scope in ReplayScope:
        await replayed(store, order(scope))
    await canceled(store)
    others = ("BEGIN", "COMMIT", "INSERT", "DELETE FROM replays")
    texts = dict.fromkeys(text for text in seen if not text.startswith(others))
    plans = await plan(store, list(texts))
    assert "INDEX deliveries_by_lane (lane_id=? AND id>?)" in plans
    assert "INDEX events_by_tenant (tenant_id=? AND id>?)" in plans
    assert "INDEX deliveries_by_event (event_row=?)" in plans
    assert "INDEX queue_wait (lane_id=? AND (band,due)>(?,?))" in plans
    assert "INDEX queue_order (lane_id=? AND (resource,phase,event_row)>(?,?,?))" in plans
    # Few are leased.
    assert "SCAN" not in plans.replace("SCAN queue USING INDEX queue_lease", "")
    assert "TEMP B-TREE" not in plans
