"""Deliveries: one event on its way to one subscription."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from signalpost.domain.event import Resource
from signalpost.domain.ids import DeliveryKey, EventId, LaneId, SubscriptionId, TenantId
from signalpost.domain.outcome import AttemptResult


class DeliveryState(IntEnum):
    """How far a delivery got. Numbers as in `Delivery.State` of the contract."""

    PENDING = 1
    SUCCEEDED = 2
    FAILED = 3
    CANCELED = 4


class FailureReason(IntEnum):
    """Why a delivery was given up. Numbers as in `Delivery.FailureReason` of the contract."""

    NONE = 0
    EXHAUSTED = 1
    EXPIRED = 2
    BACKLOG = 3
    INTERNAL = 4


class Trigger(IntEnum):
    """What led to an attempt. Numbers as in `DeliveryAttempt.Trigger` of the contract."""

    SCHEDULED = 1
    MANUAL = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One HTTP request of a delivery, on record; `number` counts from 1."""

    number: int
    trigger: Trigger
    start_time: datetime
    result: AttemptResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """A delivery as it stands; `attempts` are the last 100, or only the last one in lists."""

    key: DeliveryKey
    event_id: EventId
    subscription_id: SubscriptionId
    tenant_id: TenantId
    event_type: str
    resource: Resource
    state: DeliveryState
    failure_reason: FailureReason
    attempt_count: int
    create_time: datetime
    next_attempt_time: datetime | None
    end_time: datetime | None
    attempts: tuple[Attempt, ...]
    traceparent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The time-limited right to attempt a delivery; what a worker gets from a claim.

    `token` fences it: a result that comes with an older token changes nothing. `number` is
    the number of the attempt to make. `tries` counts the attempts of the present set that
    the retry policy is charged for, `set_start` is when its first one began (None before), put
    off by the time in which the subscription was paused or suspended since.
    `subscription_version` tells whether what is known of the subscription is current.
    """

    key: DeliveryKey
    lane_id: LaneId
    token: int
    number: int
    tries: int
    set_start: datetime | None
    due: datetime
    trigger: Trigger
    subscription_version: int
    event_id: EventId
    event_type: str
    tenant_id: TenantId
    accept_time: datetime
    traceparent: str
    body: bytes
