"""What a list costs: each page follows an index in its order, and looks at a bounded part of it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Self

import pytest
from sqlalchemy import Connection

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import EventId, LaneId, SubscriptionId
from signalpost.domain.retention import Retention
from signalpost.domain.subscription import State
from signalpost.ports import (
    DeliveryQuery,
    EventQuery,
    Page,
    PageRequest,
    SubscriptionQuery,
)
from signalpost.ports.retention import Prunable
from signalpost.store import Store
from signalpost.store.paging import SCAN_LIMIT
from tests.contract.material import NOW, TENANT, event, subscription
from tests.contract.statements import executed

RARE = EventFilter(event_types=frozenset({"quota.exceeded"}))
FAILED = frozenset({DeliveryState.FAILED})
SUCCEEDED = frozenset({DeliveryState.SUCCEEDED})
SUB = SubscriptionId("sub")
SCAN_OF_A_TABLE = re.compile(r"SCAN \w+")
LATE = NOW + timedelta(days=1)

EVENT_QUERIES = [
    EventQuery(tenant_id=tenant, filter=chosen, start=start, end=end)
    for tenant in (TENANT, None)
    for chosen in (EventFilter(), RARE)
    for start, end in ((None, None), (NOW, LATE))
]
DELIVERY_QUERIES = [
    DeliveryQuery(
        tenant_id=tenant,
        subscription_id=subscription_id,
        event_id=event_id,
        states=states,
        start=start,
    )
    for tenant in (TENANT, None)
    for subscription_id in (SUB, None)
    for event_id in (EventId("e0-1"), None)
    for states in (frozenset[DeliveryState](), FAILED, SUCCEEDED)
    for start in (NOW, None)
]
SUBSCRIPTION_QUERIES = [
    SubscriptionQuery(tenant_id=tenant, states=states, event_type=event_type)
    for tenant in (TENANT, None)
    for states in (frozenset[State](), frozenset({State.PAUSED}))
    for event_type in ("quota.exceeded", None)
]

Fetch = Callable[[Store, PageRequest], Awaitable[Page[Any]]]


def fetches() -> list[tuple[str, Fetch]]:
    return [
        *((f"{q}", lambda s, p, q=q: s.list_events(q, p)) for q in EVENT_QUERIES),
        *((f"{q}", lambda s, p, q=q: s.list_deliveries(q, p)) for q in DELIVERY_QUERIES),
        *((f"{q}", lambda s, p, q=q: s.list_subscriptions(q, p)) for q in SUBSCRIPTION_QUERIES),
    ]


@pytest.fixture
async def filled(store: Store) -> Store:
    await store.create(subscription("sub"))
    await store.create(subscription("sub", tenant="other"))
    await store.create(subscription("sub-2"))
    for batch in range(2):
        await store.accept([event(f"e{batch}-{n}") for n in range(20)], now=NOW)
    await store.accept([event("e0-1", tenant="other")], now=NOW)
    return store


class Statements:
    """Keeps the plans of all that the readers of a store execute."""

    def __init__(self, store: Store, seen: list[str]) -> None:
        self._store = store
        self._seen = seen

    @classmethod
    async def of(cls, store: Store) -> Self:
        return cls(store, await executed(store))

    async def plans(self) -> list[str]:
        seen = [text for text in self._seen if text.startswith("SELECT")]
        self._seen.clear()

        def explain(conn: Connection) -> list[str]:
            return [
                row.detail
                for text in seen
                for row in conn.exec_driver_sql("EXPLAIN QUERY PLAN " + text)
            ]

        return await self._store._for_callers.run(explain)


async def test_every_list_follows_an_index_and_sorts_nothing(filled: Store) -> None:
    statements = await Statements.of(filled)
    for name, fetch in fetches():
        first = await fetch(filled, PageRequest(size=1))
        after = first.next_after or ("1" if "Subscription" not in name else '["acme","sub"]')
        await fetch(filled, PageRequest(size=1, after=after))
        plans = await statements.plans()
        assert plans, name
        for detail in plans:
            assert "TEMP B-TREE" not in detail, (name, plans)
            assert not SCAN_OF_A_TABLE.fullmatch(detail), (name, plans)


async def test_the_search_for_what_is_over_follows_the_order_of_rows(filled: Store) -> None:
    statements = await Statements.of(filled)
    for kind in Prunable:
        await filled.upkeep.find_expired(kind, after=1, retention=Retention(), now=NOW)
        plans = await statements.plans()
        assert any("PRIMARY KEY (rowid>? AND rowid<?)" in detail for detail in plans), plans
        for detail in plans:
            assert "TEMP B-TREE" not in detail, plans
            assert not SCAN_OF_A_TABLE.fullmatch(detail), plans


async def test_lanes_are_emptied_in_the_order_of_rows(filled: Store) -> None:
    statements = await Statements.of(filled)
    await filled.upkeep.find_surplus(after=1, over={LaneId(1): 5}, stopped_before=NOW)
    plans = await statements.plans()
    assert plans[0] == "SEARCH queue USING INTEGER PRIMARY KEY (rowid>?)"
    assert "TEMP B-TREE" not in "".join(plans)


async def test_search_for_what_is_not_there_looks_at_a_bounded_part(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.create(subscription("sub"))
    for batch in range(2):
        await store.accept([event(f"e{batch}-{n}") for n in range(1000)], now=NOW)
    assert SCAN_LIMIT < 2000
    page = PageRequest(size=50)
    for tenant in (TENANT, None):
        events = await store.list_events(EventQuery(tenant_id=tenant, filter=RARE), page)
        assert (list(events.items), events.next_after is None) == ([], False)
        for states in (SUCCEEDED, FAILED):
            query = DeliveryQuery(tenant_id=tenant, states=states)
            found = await store.list_deliveries(query, page)
            assert list(found.items) == []
            # An index holds the failed ones of a tenant: there the search ends at once.
            at_once = states == FAILED and tenant is not None
            assert (found.next_after is None) == at_once
