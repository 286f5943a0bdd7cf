"""Repairs of SQLite files go through much, and must go through it by an index."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy import event as sqlalchemy_event

from signalpost.domain.replay import ReplayScope
from signalpost.store import Store, cancellation
from tests.contract.material import event
from tests.contract.repairing import LATER, canceled, failed_lane, keys, order, replayed
from tests.contract.test_sqlite import plan


def statements_of(*engines: Engine) -> list[str]:
    """Return a list that fills with the statements of engines, their values written out."""
    seen: list[str] = []

    def note(*context: Any) -> None:
        statement = str(context[2])
        for value in context[3][0] if context[5] else context[3]:
            literal = str(value) if isinstance(value, int) else "NULL" if value is None else "'x'"
            statement = statement.replace("?", literal, 1)
        if not statement.startswith(("BEGIN", "INSERT", "DELETE FROM replays")):
            seen.append(statement)

    for engine in engines:
        sqlalchemy_event.listen(engine, "before_cursor_execute", note)
    return seen


async def test_repairs_are_searched_for_by_an_index(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancellation, "SCAN_LIMIT", 1)
    await store.accept([event("before")], now=LATER)
    await failed_lane(store, "e1", "e2", ordered=True)
    [key, *_] = await keys(store)
    seen = statements_of(store._for_callers._engine, store._writer._engine)
    await store.repairs.retry(key, now=LATER)
    for scope in ReplayScope:
        await replayed(store, order(scope))
    await canceled(store)
    plans = await plan(store, list(dict.fromkeys(seen)))
    assert "INDEX deliveries_by_lane (lane_id=? AND id>?)" in plans
    assert "INDEX events_by_tenant (tenant_id=? AND id>?)" in plans
    assert "INDEX deliveries_by_event (event_row=?)" in plans
    assert "INDEX queue_wait (lane_id=? AND (band,due)>(?,?))" in plans
    assert "INDEX queue_order (lane_id=? AND (resource,phase,event_row)>(?,?,?))" in plans
    # Few are leased.
    assert "SCAN" not in plans.replace("SCAN queue USING INDEX queue_lease", "")
    assert "TEMP B-TREE" not in plans
