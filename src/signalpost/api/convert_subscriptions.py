"""Subscriptions between the contract and the domain.

What is shown holds no secret and no header value.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import timedelta
from ipaddress import ip_network
from typing import cast

from signalpost.api.constraints import CHOSEN_TYPE, MAX_IP_RANGES
from signalpost.api.convert_events import event_filter, filter_message
from signalpost.api.convert_times import duration, span, timestamp
from signalpost.api.rendering import readable
from signalpost.api.rules import cidr
from signalpost.domain.errors import Reason, Violation
from signalpost.domain.filter import MAX_VALUES
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.signature import public_key
from signalpost.domain.subscription import (
    DEFAULT_CONCURRENCY,
    DEFAULT_TIMEOUT,
    IpNetwork,
    RetryPolicy,
    SigningKey,
    Subscription,
)
from signalpost.ports import Unreadable
from signalpost.subscriptions.register import SubscriptionDraft
from signalpost.v1.event_pb2 import EventFilter
from signalpost.v1.subscription_pb2 import RateLimits
from signalpost.v1.subscription_pb2 import RetryPolicy as RetryPolicyMessage
from signalpost.v1.subscription_pb2 import SigningKey as SigningKeyMessage
from signalpost.v1.subscription_pb2 import Subscription as SubscriptionMessage

_DEFAULT_RETRY = RetryPolicy()


def catalogue_violations(
    chosen: EventFilter, catalogue: Container[str], *, path: str
) -> Iterator[Violation]:
    """Say which types a subscription names, if not too many, that are not in the catalogue.

    Of names that no type can have the check of the shape tells.
    """
    if len(chosen.event_types) > MAX_VALUES:
        return
    for index, name in enumerate(chosen.event_types):
        if not name.endswith(".*") and name not in catalogue and not CHOSEN_TYPE(name):
            field = f"{path}.event_types[{index}]"
            description = f'no event type "{name}" is registered'
            yield Violation(field, Reason.EVENT_TYPE_UNKNOWN, description, {"eventType": name})


def subscription_draft(message: SubscriptionMessage) -> SubscriptionDraft:
    """Make the draft of a checked subscription, defaults filled in."""
    given = message.subscription_id
    return SubscriptionDraft(
        subscription_id=SubscriptionId(given) if given else None,
        tenant_id=TenantId(message.tenant_id),
        display_name=message.display_name,
        endpoint_uri=message.endpoint_uri,
        filter=event_filter(message.filter),
        headers=dict(message.headers),
        retry_policy=_retry_policy(message.retry_policy),
        timeout=span(message, "timeout", default=DEFAULT_TIMEOUT),
        max_concurrent_attempts=(
            message.rate_limits.max_concurrent_attempts or DEFAULT_CONCURRENCY
        ),
        ordered=message.ordered,
        max_attempts_per_second=message.rate_limits.max_attempts_per_second or None,
        require_handshake=message.require_handshake,
        allowed_ip_ranges=_ip_ranges(message),
        labels=dict(message.labels),
    )


def sound_ip_ranges(message: SubscriptionMessage) -> tuple[IpNetwork, ...]:
    """Return the ranges of a subscription, none if its shape is wrong there."""
    texts = message.allowed_ip_ranges
    if len(texts) > MAX_IP_RANGES or any(map(cidr, texts)):
        return ()
    return _ip_ranges(message)


def _ip_ranges(message: SubscriptionMessage) -> tuple[IpNetwork, ...]:
    return tuple(ip_network(text) for text in message.allowed_ip_ranges)


def _retry_policy(message: RetryPolicyMessage) -> RetryPolicy:
    unlimited = timedelta(0)
    max_backoff = span(message, "max_backoff", default=_DEFAULT_RETRY.max_backoff)
    return RetryPolicy(
        max_attempts=message.max_attempts or _DEFAULT_RETRY.max_attempts,
        max_retry_duration=span(message, "max_retry_duration", default=unlimited) or None,
        min_backoff=span(
            message, "min_backoff", default=min(_DEFAULT_RETRY.min_backoff, max_backoff)
        ),
        max_backoff=max_backoff,
        backoff_multiplier=message.backoff_multiplier or _DEFAULT_RETRY.backoff_multiplier,
    )


def subscription_message(subscription: Subscription) -> SubscriptionMessage:
    """Show a subscription: of its headers the names, of its keys no secret."""
    reason = cast("SubscriptionMessage.SuspensionReason.ValueType", subscription.suspension_reason)
    limits = RateLimits(
        max_attempts_per_second=subscription.max_attempts_per_second or 0,
        max_concurrent_attempts=subscription.max_concurrent_attempts,
    )
    return SubscriptionMessage(
        subscription_id=subscription.subscription_id,
        tenant_id=subscription.tenant_id,
        display_name=subscription.display_name,
        endpoint_uri=subscription.endpoint_uri,
        filter=filter_message(subscription.filter),
        headers=dict.fromkeys(subscription.headers, ""),
        retry_policy=_retry_policy_message(subscription.retry_policy),
        rate_limits=limits,
        timeout=duration(subscription.timeout),
        ordered=subscription.ordered,
        require_handshake=subscription.require_handshake,
        allowed_attempts_per_minute=subscription.allowed_attempts_per_minute or 0,
        allowed_ip_ranges=[str(network) for network in subscription.allowed_ip_ranges],
        labels=subscription.labels,
        state=cast("SubscriptionMessage.State.ValueType", subscription.state),
        suspension_reason=reason,
        suspension_message=subscription.suspension_message,
        signing_keys=[_key_message(key) for key in subscription.signing_keys],
        create_time=timestamp(subscription.create_time),
        update_time=timestamp(subscription.update_time),
        etag=subscription.etag,
    )


def listed_message(found: Subscription | Unreadable) -> SubscriptionMessage:
    """Show a subscription of a list: of one that cannot be read what it is called, and why."""
    if isinstance(found, Subscription):
        try:
            return subscription_message(found)
        except UnicodeEncodeError as error:
            problem = f"is damaged: {error.reason}"
    else:
        problem = found.problem
    return SubscriptionMessage(
        subscription_id=readable(found.subscription_id),
        tenant_id=readable(found.tenant_id),
        suspension_message=readable(problem),
    )


def _retry_policy_message(policy: RetryPolicy) -> RetryPolicyMessage:
    return RetryPolicyMessage(
        max_attempts=policy.max_attempts,
        max_retry_duration=duration(policy.max_retry_duration),
        min_backoff=duration(policy.min_backoff),
        max_backoff=duration(policy.max_backoff),
        backoff_multiplier=policy.backoff_multiplier,
    )


def _key_message(key: SigningKey) -> SigningKeyMessage:
    return SigningKeyMessage(
        key_id=key.key_id,
        algorithm=cast("SigningKeyMessage.Algorithm.ValueType", key.algorithm),
        public_key=public_key(key),
        create_time=timestamp(key.create_time),
        expire_time=timestamp(key.expire_time),
    )
