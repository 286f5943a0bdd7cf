"""When the service stops sending to an endpoint, and the event that tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import orjson

from signalpost.domain.event import Event, EventDraft, Resource, complete
from signalpost.domain.ids import EventId, SubscriptionId, TenantId
from signalpost.domain.outcome import AttemptResult
from signalpost.domain.pace import Failing, Pace
from signalpost.domain.subscription import SuspensionReason

FAILING_FOR: Final = timedelta(days=5)
"""How long there has been no success when an endpoint counts as failing."""

FAILED_ATTEMPTS: Final = 10
"""How many attempts failed meanwhile, at least."""

FAILED_BEFORE: Final = timedelta(hours=12)
"""How long before the last of them the one before it was, at most: a quiet endpoint is spared."""

FORBIDDEN_ATTEMPTS: Final = 10
FORBIDDEN_FOR: Final = timedelta(hours=1)
"""How many attempts in a row, over how long, were FORBIDDEN."""

EVENT_TYPE: Final = "subscription.suspended"

_GONE = 410


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why a subscription is suspended; `message` explains it to people."""

    reason: SuspensionReason
    message: str


def judge(former: Pace, pace: Pace, result: AttemptResult, *, now: datetime) -> Suspension | None:
    """Decide whether an attempt, before and after which this was the pace, was one too many."""
    if result.status_code == _GONE:
        return Suspension(SuspensionReason.ENDPOINT_GONE, "The endpoint answered 410 Gone.")
    failing = pace.failing
    if failing is None:
        return None
    since = failing.forbidden_since
    if (
        failing.forbidden >= FORBIDDEN_ATTEMPTS
        and since is not None
        and now - since >= FORBIDDEN_FOR
    ):
        message = "The endpoint resolves to an address that this service does not connect to."
        return Suspension(SuspensionReason.ENDPOINT_FORBIDDEN, message)
    if _is_failing(former.failing, failing, now=now):
        times = f"the {failing.count} attempts since {failing.since:%Y-%m-%d %H:%M} UTC"
        return Suspension(SuspensionReason.ENDPOINT_FAILING, f"All of {times} failed.")
    return None


def _is_failing(former: Failing | None, failing: Failing, *, now: datetime) -> bool:
    return (
        former is not None
        and failing.count >= FAILED_ATTEMPTS
        and now - failing.since >= FAILING_FOR
        and now - former.last <= FAILED_BEFORE
    )


def announcement(
    suspension: Suspension,
    *,
    tenant_id: TenantId,
    subscription_id: SubscriptionId,
    pending_count: int,
    event_id: EventId,
    now: datetime,
) -> Event:
    """Make the event that tells the other subscriptions of a tenant."""
    payload = {
        "reason": suspension.reason.name,
        "message": suspension.message,
        "pending_count": pending_count,
    }
    draft = EventDraft(
        event_id=event_id,
        tenant_id=tenant_id,
        event_type=EVENT_TYPE,
        resource=Resource("subscription", subscription_id),
        timestamp=None,
        payload=orjson.dumps(payload),
        traceparent="",
    )
    return complete(draft, event_id=event_id, now=now)
