"""What the tests of the store are made of."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from signalpost.domain.delivery import Attempt, Lease
from signalpost.domain.event import Event, Resource
from signalpost.domain.ids import EventId, KeyId, LaneId, SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.retention import Retention
from signalpost.domain.subscription import Algorithm, SigningKey, Subscription
from signalpost.domain.verdict import Succeed, Verdict
from signalpost.ports import AttemptRecord, Pick
from signalpost.ports.retention import Prunable
from signalpost.store import Store

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
LEASE = timedelta(seconds=40)
TENANT = TenantId("acme")
RETENTION = Retention(delivered=timedelta(days=7), failed=timedelta(days=30))


def event(
    event_id: str,
    *,
    tenant: str = TENANT,
    event_type: str = "account.connected",
    resource: str = "acc_1",
    content: str = "{}",
    publish_time: datetime = NOW,
) -> Event:
    return Event(
        event_id=EventId(event_id),
        tenant_id=TenantId(tenant),
        event_type=event_type,
        resource=Resource("account", resource),
        body=content.encode(),
        digest=hashlib.sha256(content.encode()).digest(),
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        publish_time=publish_time,
    )


def signing_key(secret: bytes = b"s" * 32, *, key_id: str = "key-1") -> SigningKey:
    return SigningKey(
        key_id=KeyId(key_id), algorithm=Algorithm.HMAC_SHA256, secret=secret, create_time=NOW
    )


def subscription(
    subscription_id: str = "sub", *, tenant: str = TENANT, **more: Any
) -> Subscription:
    plain = Subscription(
        subscription_id=SubscriptionId(subscription_id),
        tenant_id=TenantId(tenant),
        endpoint_uri="https://receiver.example/hook",
        signing_keys=(signing_key(),),
        create_time=NOW,
        update_time=NOW,
    )
    return replace(plain, **more)


def lane(lane_id: LaneId, *, max_in_flight: int = 32) -> Lane:
    """Return the lane of what `subscription` makes."""
    return Lane(lane_id, TENANT, max_in_flight, host="receiver.example")


async def prune(store: Store, *, now: datetime, keep: Retention = RETENTION) -> int:
    """Walk once through everything; return how many rows went."""
    pruned = 0
    for kind in Prunable:
        after, more = 0, True
        while more:
            found = await store.upkeep.find_expired(kind, after=after, retention=keep, now=now)
            after, more = found.reached, found.more
            pruned += await store.upkeep.prune(kind, found.rows, retention=keep, now=now)
    return pruned


async def claim(
    store: Store, lane_id: LaneId, *, count: int = 100, now: datetime = NOW
) -> Sequence[Lease]:
    return await store.claim([Pick(lane_id, count)], now=now, lease_until=now + LEASE)


def ended(
    lease: Lease,
    verdict: Verdict | None = None,
    *,
    outcome: Outcome = Outcome.SUCCEEDED,
    start: datetime = NOW,
    **result: Any,
) -> AttemptRecord:
    return AttemptRecord(
        lease=lease,
        attempt=Attempt(
            number=lease.number,
            trigger=lease.trigger,
            start_time=start,
            result=AttemptResult(outcome=outcome, latency=timedelta(milliseconds=12), **result),
        ),
        verdict=Succeed() if verdict is None else verdict,
    )
