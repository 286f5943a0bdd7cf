"""Subscriptions: filter, endpoint, policy and signing keys."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import IntEnum
from ipaddress import IPv4Network, IPv6Network

from signalpost.domain.filter import EventFilter
from signalpost.domain.handshake import Consent, lane_rate
from signalpost.domain.ids import KeyId, LaneId, SubscriptionId, TenantId
from signalpost.domain.lane import Lane, host_of
from signalpost.domain.version import etag_of

IpNetwork = IPv4Network | IPv6Network

MAX_SIGNING_KEYS = 5
"""Most keys of a subscription that sign at the same time."""

DEFAULT_TIMEOUT = timedelta(seconds=15)
MAX_TIMEOUT = timedelta(seconds=30)
DEFAULT_OVERLAP = timedelta(hours=24)
MAX_OVERLAP = timedelta(days=7)
DEFAULT_CONCURRENCY = 32
MAX_CONCURRENCY = 256
MIN_RATE = 0.001
MAX_RATE = 1000.0


class State(IntEnum):
    """Whether deliveries are made. Numbers as in `Subscription.State` of the contract."""

    ACTIVE = 1
    PAUSED = 2
    SUSPENDED = 3


class SuspensionReason(IntEnum):
    """Why the service suspended a subscription. Numbers as in the contract."""

    NONE = 0
    ENDPOINT_FAILING = 1
    ENDPOINT_GONE = 2
    ENDPOINT_FORBIDDEN = 3


class Algorithm(IntEnum):
    """How a key signs. Numbers as in `SigningKey.Algorithm` of the contract."""

    HMAC_SHA256 = 1
    ED25519 = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How to retry. `max_retry_duration` None is unlimited."""

    max_attempts: int = 20
    max_retry_duration: timedelta | None = None
    min_backoff: timedelta = timedelta(seconds=5)
    max_backoff: timedelta = timedelta(hours=6)
    backoff_multiplier: float = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """A key that signs deliveries; `secret` are its raw bytes and never appear in a repr.

    Of an Ed25519 key they are the private key (RFC 8032), 32 bytes. `expire_time` is when it
    stops signing; None for the newest.
    """

    key_id: KeyId
    algorithm: Algorithm
    secret: bytes = field(repr=False)
    create_time: datetime
    expire_time: datetime | None = None

    def signs_at(self, now: datetime) -> bool:
        """Tell whether the key has not expired."""
        return self.expire_time is None or now < self.expire_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """Sends the events that a filter chooses to an endpoint.

    `headers` are the customer's own, values included; `version` rises with every change;
    `lane_id` is 0 until it is stored. `signing_keys` are newest first. `stop_time` is since
    when it is paused or suspended, None while it is active; `stopped` is how long it was so
    before, in all. `max_attempts_per_second` None is unlimited. What is
    stored has a `consent` exactly if it has `require_handshake`.
    """

    subscription_id: SubscriptionId
    tenant_id: TenantId
    endpoint_uri: str
    signing_keys: tuple[SigningKey, ...]
    create_time: datetime
    update_time: datetime
    display_name: str = ""
    filter: EventFilter = EventFilter()
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    retry_policy: RetryPolicy = RetryPolicy()
    timeout: timedelta = DEFAULT_TIMEOUT
    max_concurrent_attempts: int = DEFAULT_CONCURRENCY
    ordered: bool = False
    max_attempts_per_second: float | None = None
    require_handshake: bool = False
    consent: Consent | None = None
    allowed_ip_ranges: tuple[IpNetwork, ...] = ()
    labels: dict[str, str] = field(default_factory=dict)
    state: State = State.ACTIVE
    suspension_reason: SuspensionReason = SuspensionReason.NONE
    suspension_message: str = ""
    stop_time: datetime | None = None
    stopped: timedelta = timedelta(0)
    version: int = 1
    lane_id: LaneId = LaneId(0)

    @property
    def etag(self) -> str:
        """The version as the text that clients compare."""
        return etag_of(self.create_time, self.version)

    @property
    def allowed_attempts_per_minute(self) -> int | None:
        """How much its endpoint allowed; None if that is unlimited."""
        return None if self.consent is None else self.consent.attempts_per_minute

    @property
    def lane(self) -> Lane:
        """What the home of its lane must know."""
        return Lane(
            self.lane_id,
            self.tenant_id,
            self.max_concurrent_attempts,
            lane_rate(self.max_attempts_per_second, self.allowed_attempts_per_minute),
            host_of(self.endpoint_uri),
        )


def paused(subscription: Subscription, *, now: datetime) -> Subscription:
    """Return it as it is after someone paused it; one that is paused or suspended stays so."""
    if subscription.state is not State.ACTIVE:
        return subscription
    return replace(subscription, state=State.PAUSED, stop_time=now)


def resumed(subscription: Subscription, *, now: datetime) -> Subscription:
    """Return it as it is after it was resumed; an active one stays as it is."""
    if subscription.state is State.ACTIVE:
        return subscription
    since = subscription.stop_time or now
    return replace(
        subscription,
        state=State.ACTIVE,
        suspension_reason=SuspensionReason.NONE,
        suspension_message="",
        stop_time=None,
        stopped=subscription.stopped + max(now - since, timedelta(0)),
    )
