"""The request of an attempt: what is sent to whom, and signed with what."""

from __future__ import annotations

from datetime import datetime

from signalpost.domain.handshake import REQUEST_ORIGIN
from signalpost.domain.ids import EventId
from signalpost.domain.signature import sign
from signalpost.domain.subscription import Subscription
from signalpost.ports import WebhookRequest


def build_request(
    subscription: Subscription,
    *,
    event_id: EventId,
    body: bytes,
    traceparent: str,
    now: datetime,
    wall: datetime,
    user_agent: str,
) -> WebhookRequest:
    """Build the request of an attempt that begins now, signed with every key that still signs.

    Receivers compare its timestamp with their wall clock, so it is told by ours.
    """
    timestamp = int(wall.timestamp())
    keys = [key for key in subscription.signing_keys if key.signs_at(now)]
    own = {
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": user_agent,
        "webhook-id": event_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": sign(keys, webhook_id=event_id, timestamp=timestamp, body=body),
    }
    if subscription.consent is not None:
        own[REQUEST_ORIGIN] = subscription.consent.origin
    if traceparent:
        own["traceparent"] = traceparent
    return WebhookRequest(
        lane_id=subscription.lane_id,
        endpoint_uri=subscription.endpoint_uri,
        headers=subscription.headers | own,
        body=body,
        timeout=subscription.timeout,
        allowed_ip_ranges=subscription.allowed_ip_ranges,
    )
