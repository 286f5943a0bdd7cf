"""The store offers what its consumers ask for. What this file shows, mypy checks."""

from __future__ import annotations

from signalpost.ports import (
    DeliveryQueue,
    DeliveryReader,
    EventStore,
    EventTypeStore,
    StoreHealth,
    SubscriptionStore,
)
from signalpost.ports.backlog import BacklogStore
from signalpost.ports.retention import RetentionStore
from signalpost.store import Store


async def test_one_store_serves_every_port(store: Store) -> None:
    events: EventStore = store
    event_types: EventTypeStore = store
    subscriptions: SubscriptionStore = store
    queue: DeliveryQueue = store
    reader: DeliveryReader = store
    retention: RetentionStore = store.upkeep
    backlog: BacklogStore = store.upkeep
    health: StoreHealth = store
    assert len({events, event_types, subscriptions, queue, reader, health}) == 1
    assert len({retention, backlog}) == 1
    await health.check_writable()
