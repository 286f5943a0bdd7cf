"""Changing a subscription: what was read is only replaced while it is what is stored."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime

from signalpost.domain.errors import EtagMismatch
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.subscription import Subscription
from signalpost.ports import Clock, SubscriptionStore

Revise = Callable[[Subscription, datetime], Subscription]
"""Makes of a subscription what it is to be, at a time; raises if it cannot be that."""

Settle = Callable[[Subscription], Awaitable[Subscription]]
"""Obtains what a revised subscription lacks to be stored; raises if that is not to be had."""


@dataclass(frozen=True, slots=True)
class Change:
    """A subscription before and after; the same twice if there was nothing to change."""

    former: Subscription
    current: Subscription


class Changer:
    """Changes stored subscriptions."""

    def __init__(self, store: SubscriptionStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def change(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        revise: Revise,
        *,
        etag: str | None = None,
        validate_only: bool = False,
        settle: Settle | None = None,
    ) -> Change:
        """Store what `revise` makes of a subscription, or only tell what that would be.

        Without an etag a change by somebody else in between does not matter: `revise` is
        called again, as often as others come first. What changes nothing is not stored; only
        what is about to be is settled. Raises NotFound, EtagMismatch, and what `revise` and
        `settle` raise.
        """
        while True:
            former = await self._store.get(tenant_id, subscription_id)
            if etag is not None and former.etag != etag:
                raise EtagMismatch("subscription", subscription_id)
            now = self._clock.now()
            revised = revise(former, now)
            if validate_only or revised == former:
                return Change(former, revised)
            if settle is not None:
                revised = await settle(revised)
                now = self._clock.now()
            try:
                return Change(former, await self._store.replace(revised, now=now))
            except EtagMismatch:
                if etag is not None:
                    raise
