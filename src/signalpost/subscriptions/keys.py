"""Signing keys: making one, and putting it in the place of the former."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.errors import QuotaExceeded, Reason, RequestInvalid, Violation
from signalpost.domain.ids import KeyId, SubscriptionId, TenantId
from signalpost.domain.signature import NEW_SECRET_BYTES, shown_secret
from signalpost.domain.subscription import MAX_SIGNING_KEYS, Algorithm, SigningKey, Subscription
from signalpost.subscriptions.changing import Changer

SECRET_REFUSED: Final = Violation(
    "secret",
    Reason.FIELD_INVALID,
    "must be empty with ED25519: its private key is made by the service and never leaves it",
)
"""What is wrong with a secret that was given for an Ed25519 key."""

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keyed:
    """A subscription and the secret of its newest key, told this once; empty if it has none."""

    subscription: Subscription
    secret: str = field(repr=False)


class KeyRing:
    """Makes and rotates keys. `entropy` returns so many random bytes."""

    def __init__(
        self, changer: Changer, *, new_id: Callable[[], str], entropy: Callable[[int], bytes]
    ) -> None:
        self._changer = changer
        self._new_id = new_id
        self._entropy = entropy

    def make(self, algorithm: Algorithm, secret: bytes | None, *, now: datetime) -> SigningKey:
        """Make a key of a given secret, or of a fresh one. Raises RequestInvalid."""
        if secret is not None and algorithm is not Algorithm.HMAC_SHA256:
            raise RequestInvalid([SECRET_REFUSED])
        return SigningKey(
            key_id=KeyId("key-" + self._new_id().replace("-", "")),
            algorithm=algorithm,
            secret=secret or self._entropy(NEW_SECRET_BYTES),
            create_time=now,
        )

    async def rotate(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        *,
        etag: str | None,
        overlap: timedelta,
        algorithm: Algorithm | None,
        secret: bytes | None,
    ) -> Keyed:
        """Make a new key the newest; without an `algorithm`, one like the newest so far.

        Without an etag, a change by somebody else in between does not matter. Raises NotFound,
        EtagMismatch, QuotaExceeded, RequestInvalid.
        """

        def revise(former: Subscription, now: datetime) -> Subscription:
            key = self.make(algorithm or former.signing_keys[0].algorithm, secret, now=now)
            return replace(former, signing_keys=rotated(former, key, overlap=overlap, now=now))

        change = await self._changer.change(tenant_id, subscription_id, revise, etag=etag)
        _logger.info("subscription secret rotated", extra=log_fields(change.current))
        return keyed(change.current)


def keyed(subscription: Subscription) -> Keyed:
    """Return a subscription with the secret of its newest key, which was made just now."""
    return Keyed(subscription, shown_secret(subscription.signing_keys[0]))


def rotated(
    subscription: Subscription, key: SigningKey, *, overlap: timedelta, now: datetime
) -> tuple[SigningKey, ...]:
    """Return its keys after `key` became the newest; those that no longer sign are dropped.

    Former keys go on for `overlap`, unless they expire sooner; without one they end at once.
    Raises QuotaExceeded if more than `MAX_SIGNING_KEYS` would sign.
    """
    former = _overlapping(subscription.signing_keys, end=now + overlap, now=now) if overlap else ()
    if len(former) >= MAX_SIGNING_KEYS:
        raise QuotaExceeded(
            subscription.subscription_id,
            f"{len(former)} keys sign already, {MAX_SIGNING_KEYS} at most: "
            "wait until one expires, or rotate with an overlap of zero",
        )
    return (key, *former)


def _overlapping(
    keys: Sequence[SigningKey], *, end: datetime, now: datetime
) -> tuple[SigningKey, ...]:
    return tuple(
        replace(key, expire_time=min(key.expire_time or end, end))
        for key in keys
        if key.signs_at(now)
    )


def log_fields(subscription: Subscription) -> dict[str, str]:
    """Return what a log line may tell of a subscription that was just given a key."""
    return {
        "tenant_id": subscription.tenant_id,
        "subscription_id": subscription.subscription_id,
        "key_id": subscription.signing_keys[0].key_id,
    }
