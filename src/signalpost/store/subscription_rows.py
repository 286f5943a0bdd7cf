"""Translates subscriptions and their keys to rows and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from signalpost.domain.handshake import Consent
from signalpost.domain.ids import KeyId, LaneId, SubscriptionId, TenantId
from signalpost.domain.subscription import (
    Algorithm,
    SigningKey,
    State,
    Subscription,
    SuspensionReason,
)
from signalpost.ports import SecretUnreadable, SubscriptionUnreadable
from signalpost.store.documents import (
    read_filter,
    read_policy,
    read_ranges,
    read_texts,
    write_filter,
    write_policy,
    write_ranges,
    write_texts,
)
from signalpost.store.lanes import sound_lane
from signalpost.store.order import Ordering
from signalpost.store.sealing import Sealer
from signalpost.store.statements import AnyRow
from signalpost.store.units import (
    from_duration,
    from_optional_time,
    from_time,
    to_duration,
    to_optional_time,
    to_time,
)

_HEADERS = "headers of a subscription"
_SECRET = "secret of a signing key"


def write(subscription: Subscription, *, sealer: Sealer) -> dict[str, Any]:
    """Return the columns of a subscription but for its lane, which the database numbers."""
    headers = sealer.seal(
        write_texts(subscription.headers).encode(),
        _HEADERS,
        subscription.tenant_id,
        subscription.subscription_id,
    )
    return {
        "tenant_id": subscription.tenant_id,
        "subscription_id": subscription.subscription_id,
        "version": subscription.version,
        "state": int(subscription.state),
        "suspension_reason": int(subscription.suspension_reason),
        "suspension_message": subscription.suspension_message,
        "display_name": subscription.display_name,
        "endpoint_uri": subscription.endpoint_uri,
        "filter": write_filter(subscription.filter),
        "headers": headers,
        "retry_policy": write_policy(subscription.retry_policy),
        "timeout": from_duration(subscription.timeout),
        "max_concurrent_attempts": subscription.max_concurrent_attempts,
        "allowed_ip_ranges": write_ranges(subscription.allowed_ip_ranges),
        "labels": write_texts(subscription.labels),
        "create_time": from_time(subscription.create_time),
        "update_time": from_time(subscription.update_time),
        "stop_time": from_optional_time(subscription.stop_time),
        "stopped": from_duration(subscription.stopped),
        "ordering": int(Ordering.ON if subscription.ordered else Ordering.OFF),
        "max_attempts_per_second": subscription.max_attempts_per_second,
        "require_handshake": subscription.require_handshake,
        "consent_origin": None if subscription.consent is None else subscription.consent.origin,
        "allowed_attempts_per_minute": subscription.allowed_attempts_per_minute,
    }


def write_keys(subscription: Subscription, *, sealer: Sealer) -> list[dict[str, Any]]:
    """Return the rows of a subscription's keys, in their order."""
    return [
        {
            "lane_id": subscription.lane_id,
            "position": position,
            "key_id": key.key_id,
            "algorithm": int(key.algorithm),
            "secret": sealer.seal(
                key.secret,
                _SECRET,
                subscription.tenant_id,
                subscription.subscription_id,
                key.key_id,
            ),
            "create_time": from_time(key.create_time),
            "expire_time": from_optional_time(key.expire_time),
        }
        for position, key in enumerate(subscription.signing_keys)
    ]


def read(row: AnyRow, *, keys: Sequence[AnyRow], sealer: Sealer) -> Subscription:
    """Return the subscription of a row, or say which cannot be had.

    Raises SecretUnreadable, SubscriptionUnreadable.
    """
    try:
        return _read(row, keys=keys, sealer=sealer)
    except SecretUnreadable as error:
        raise SecretUnreadable(f"{label(row)}: {error}") from None
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise SubscriptionUnreadable(f"{label(row)} is damaged: {type(error).__name__}") from None


def label(row: AnyRow | Subscription) -> str:
    """Name a stored subscription, for those who must find it to repair it."""
    return f'stored subscription "{row.subscription_id}" of tenant "{row.tenant_id}"'


def _read(row: AnyRow, *, keys: Sequence[AnyRow], sealer: Sealer) -> Subscription:
    owner = (row.tenant_id, row.subscription_id)
    sound_lane(row)
    return Subscription(
        subscription_id=SubscriptionId(row.subscription_id),
        tenant_id=TenantId(row.tenant_id),
        endpoint_uri=row.endpoint_uri,
        signing_keys=tuple(_read_key(key, owner=owner, sealer=sealer) for key in keys),
        create_time=to_time(row.create_time),
        update_time=to_time(row.update_time),
        display_name=row.display_name,
        filter=read_filter(row.filter),
        headers=read_texts(sealer.open(row.headers, _HEADERS, *owner)),
        retry_policy=read_policy(row.retry_policy),
        timeout=to_duration(row.timeout),
        max_concurrent_attempts=row.max_concurrent_attempts,
        max_attempts_per_second=row.max_attempts_per_second,
        require_handshake=bool(row.require_handshake),
        consent=_read_consent(row),
        allowed_ip_ranges=read_ranges(row.allowed_ip_ranges),
        labels=read_texts(row.labels),
        state=State(row.state),
        suspension_reason=SuspensionReason(row.suspension_reason),
        suspension_message=row.suspension_message,
        stop_time=to_optional_time(row.stop_time),
        stopped=to_duration(row.stopped),
        ordered=Ordering(row.ordering).is_ordered,
        version=row.version,
        lane_id=LaneId(row.lane_id),
    )


def _read_consent(row: AnyRow) -> Consent | None:
    if row.consent_origin is None:
        return None
    return Consent(row.consent_origin, row.allowed_attempts_per_minute)


def _read_key(row: AnyRow, *, owner: tuple[str, str], sealer: Sealer) -> SigningKey:
    return SigningKey(
        key_id=KeyId(row.key_id),
        algorithm=Algorithm(row.algorithm),
        secret=sealer.open(row.secret, _SECRET, *owner, row.key_id),
        create_time=to_time(row.create_time),
        expire_time=to_optional_time(row.expire_time),
    )
