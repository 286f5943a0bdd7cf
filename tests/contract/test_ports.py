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
from signalpost.ports.retention import RetentionStore
from signalpost.store import Store


async def test_one_store_serves_every_port(store: Store) -> None:
    events: EventStore = store
    event_types: EventTypeStore = store
    subscriptions: SubscriptionStore = store
    queue: DeliveryQueue = store
    reader: DeliveryReader = store
    retention: RetentionStore = store
    health: StoreHealth = store
    assert len({events, event_types, subscriptions, queue, reader, retention, health}) == 1
    await health.check_writable()
