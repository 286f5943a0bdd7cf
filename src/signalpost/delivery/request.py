"""The request of an attempt: what is sent to whom, and signed with what."""

from __future__ import annotations

from datetime import datetime

from signalpost.domain.delivery import Lease
from signalpost.domain.signature import sign
from signalpost.domain.subscription import Subscription
from signalpost.ports import WebhookRequest


def build_request(
    lease: Lease, subscription: Subscription, *, now: datetime, user_agent: str
) -> WebhookRequest:
    """Build the request of an attempt that begins now, signed with every key that still signs."""
    timestamp = int(now.timestamp())
    keys = [key for key in subscription.signing_keys if key.signs_at(now)]
    own = {
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": user_agent,
        "webhook-id": lease.event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(
            keys, webhook_id=lease.event_id, timestamp=timestamp, body=lease.body
        ),
    }
    if lease.traceparent:
        own["traceparent"] = lease.traceparent
    return WebhookRequest(
        lane_id=lease.lane_id,
        endpoint_uri=subscription.endpoint_uri,
        headers=subscription.headers | own,
        body=lease.body,
        timeout=subscription.timeout,
        allowed_ip_ranges=subscription.allowed_ip_ranges,
    )
