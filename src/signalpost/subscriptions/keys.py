"""Signing keys: making one, and putting it in the place of the former."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.errors import EtagMismatch, QuotaExceeded
from signalpost.domain.ids import KeyId, SubscriptionId, TenantId
from signalpost.domain.signature import NEW_SECRET_BYTES, format_secret
from signalpost.domain.subscription import MAX_SIGNING_KEYS, Algorithm, SigningKey, Subscription
from signalpost.ports import Clock, SubscriptionStore

MAX_TRIES = 5
"""How often a rotation is tried that did not ask for a certain version."""

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keyed:
    """A subscription and the secret of its newest key, told this once; empty if it has none."""

    subscription: Subscription
    secret: str = field(repr=False)


class KeyRing:
    """Makes and rotates keys. `entropy` returns so many random bytes."""

    def __init__(
        self,
        store: SubscriptionStore,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        entropy: Callable[[int], bytes],
    ) -> None:
        self._store = store
        self._clock = clock
        self._new_id = new_id
        self._entropy = entropy

    def make(self, secret: bytes | None, *, now: datetime) -> SigningKey:
        """Make an HMAC key of a given secret, or of a fresh one."""
        return SigningKey(
            key_id=KeyId("key-" + self._new_id().replace("-", "")),
            algorithm=Algorithm.HMAC_SHA256,
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
        secret: bytes | None,
    ) -> Keyed:
        """Make a new key the newest. Raises NotFound, EtagMismatch, QuotaExceeded.

        Without an etag, a change by somebody else in between does not matter.
        """
        tries = 1
        while True:
            former = await self._store.get(tenant_id, subscription_id)
            if etag is not None and former.etag != etag:
                raise EtagMismatch("subscription", subscription_id)
            now = self._clock.now()
            key = self.make(secret, now=now)
            changed = replace(former, signing_keys=rotated(former, key, overlap=overlap, now=now))
            try:
                stored = await self._store.replace(changed, now=now)
            except EtagMismatch:
                if etag is not None or tries == MAX_TRIES:
                    raise
                tries += 1
            else:
                _logger.info("subscription secret rotated", extra=log_fields(stored))
                return Keyed(stored, format_secret(key.secret))


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
