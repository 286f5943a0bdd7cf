"""Creating, changing and deleting subscriptions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.errors import (
    AlreadyExists,
    NotFound,
    RequestInvalid,
    Violation,
)
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.subscription import (
    Algorithm,
    IpNetwork,
    RetryPolicy,
    State,
    Subscription,
)
from signalpost.ports import Clock, LaneNotices, SubscriptionStore
from signalpost.ports.consent import ConsentAsker
from signalpost.subscriptions.changing import Change, Changer
from signalpost.subscriptions.consent import Handshake, consent_kept
from signalpost.subscriptions.endpoints import EndpointRules
from signalpost.subscriptions.keys import Keyed, KeyRing, keyed, log_fields

CANCEL_CHUNK = 1000
"""Deliveries that one transaction cancels at most, so that none of them is long."""

ARRANGE_CHUNK = 200
"""Deliveries that one transaction brings into order at most."""

_logger: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionDraft:
    """A subscription as its client sent it, checked for shape. Without an ID it gets one."""

    subscription_id: SubscriptionId | None
    tenant_id: TenantId
    display_name: str
    endpoint_uri: str
    filter: EventFilter
    headers: Mapping[str, str] = field(repr=False)
    retry_policy: RetryPolicy
    timeout: timedelta
    max_concurrent_attempts: int
    ordered: bool
    max_attempts_per_second: float | None
    require_handshake: bool
    allowed_ip_ranges: tuple[IpNetwork, ...]
    labels: Mapping[str, str]


Draw = Callable[[Subscription], tuple[SubscriptionDraft, list[Violation]]]
"""Draws what a stored subscription is to become, and says what is wrong with that already."""


class Registrar:
    """Creates, changes and deletes subscriptions."""

    def __init__(
        self,
        store: SubscriptionStore,
        *,
        lanes: LaneNotices,
        clock: Clock,
        new_id: Callable[[], str],
        keys: KeyRing,
        endpoints: EndpointRules,
        asker: ConsentAsker,
    ) -> None:
        self._store = store
        self._changer = Changer(store, clock=clock)
        self._lanes = lanes
        self._clock = clock
        self._new_id = new_id
        self._keys = keys
        self._endpoints = endpoints
        self._asker = asker

    def violations(
        self,
        endpoint_uri: str,
        *,
        headers: Mapping[str, str],
        allowed_ip_ranges: Sequence[IpNetwork],
    ) -> list[Violation]:
        """Say what is wrong with an endpoint and what belongs to it, beyond the shape of it."""
        return self._endpoints.violations(
            endpoint_uri, headers=headers, allowed_ip_ranges=allowed_ip_ranges
        )

    async def create(
        self,
        draft: SubscriptionDraft,
        *,
        algorithm: Algorithm,
        secret: bytes | None,
        validate_only: bool,
    ) -> Keyed:
        """Store a new subscription, or only tell what it would be.

        Its endpoint is asked for its consent before, if it is required. Raises RequestInvalid,
        AlreadyExists, EndpointUnverified.
        """
        self._demand(draft)
        subscription = self._subscription(draft, now=self._clock.now())
        if validate_only or draft.require_handshake:
            await self._refuse_existing(subscription)
        if validate_only:
            return Keyed(subscription, "")
        settled = await Handshake(self._asker).settle(subscription)
        now = self._clock.now()
        key = self._keys.make(algorithm, secret, now=now)
        stored = await self._store.create(
            replace(settled, signing_keys=(key,), create_time=now, update_time=now)
        )
        _logger.info("subscription created", extra=log_fields(stored))
        return keyed(stored)

    async def update(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        draw: Draw,
        *,
        etag: str | None,
        validate_only: bool,
    ) -> Subscription:
        """Store what `draw` makes of a subscription, or only tell what that would be.

        A header whose value `draw` leaves empty keeps the one it has. What is drawn holds from
        the next attempt on. An endpoint that is new, or was not asked before, is asked for its
        consent if it is required. Raises NotFound, EtagMismatch, RequestInvalid,
        EndpointUnverified.
        """

        def revise(former: Subscription, _: datetime) -> Subscription:
            drawn, found = draw(former)
            draft = replace(drawn, headers=_kept(drawn.headers, former.headers))
            self._demand(draft, found=found)
            return self._redrawn(former, draft)

        change = await self._changer.change(
            tenant_id,
            subscription_id,
            revise,
            etag=etag,
            validate_only=validate_only,
            settle=Handshake(self._asker).settle,
        )
        if not validate_only:
            if change.current.ordered != change.former.ordered:
                await self._arrange(change.current)
            self._tell(change)
        return change.current

    async def delete(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        *,
        etag: str | None,
        allow_missing: bool,
    ) -> None:
        """Delete a subscription and cancel what waits for it. Raises NotFound, EtagMismatch.

        If it is interrupted while it cancels, the rest is canceled later.
        """
        now = self._clock.now()
        try:
            lane_id = await self._store.delete(tenant_id, subscription_id, etag=etag, now=now)
        except NotFound:
            if allow_missing:
                return
            raise
        self._lanes.forget(lane_id)
        canceled = 0
        while count := await self._store.cancel_waiting(lane_id, limit=CANCEL_CHUNK, now=now):
            canceled += count
        fields = {"tenant_id": tenant_id, "subscription_id": subscription_id}
        _logger.info("subscription deleted", extra=fields | {"canceled": canceled})

    def _demand(self, draft: SubscriptionDraft, *, found: Sequence[Violation] = ()) -> None:
        violations = list(found)
        # Of an endpoint that is missing that is said already.
        if draft.endpoint_uri or not found:
            violations += self.violations(
                draft.endpoint_uri,
                headers=draft.headers,
                allowed_ip_ranges=draft.allowed_ip_ranges,
            )
        if violations:
            raise RequestInvalid(violations)

    async def _arrange(self, subscription: Subscription) -> None:
        """Bring what waits into order, or out of it. If it is interrupted, that is done later."""
        after: str | None = ""
        while after is not None:
            after = await self._store.arrange(
                subscription.lane_id, after=after, limit=ARRANGE_CHUNK, now=self._clock.now()
            )

    def _tell(self, change: Change) -> None:
        current = change.current
        if current.state is State.ACTIVE:
            # Its lane may let more or less go at once.
            self._lanes.notice([current.lane], due=current.update_time)
        if current != change.former:
            fields = {"tenant_id": current.tenant_id, "subscription_id": current.subscription_id}
            _logger.info("subscription updated", extra=fields)

    async def _refuse_existing(self, subscription: Subscription) -> None:
        try:
            await self._store.get(subscription.tenant_id, subscription.subscription_id)
        except NotFound:
            return
        raise AlreadyExists("subscription", subscription.subscription_id)

    def _subscription(self, draft: SubscriptionDraft, *, now: datetime) -> Subscription:
        assigned = SubscriptionId("sub-" + self._new_id().replace("-", ""))
        blank = Subscription(
            subscription_id=draft.subscription_id or assigned,
            tenant_id=draft.tenant_id,
            endpoint_uri="",
            signing_keys=(),
            create_time=now,
            update_time=now,
        )
        return self._redrawn(blank, draft)

    def _redrawn(self, former: Subscription, draft: SubscriptionDraft) -> Subscription:
        """Return a subscription with all that a client may choose taken from a draft."""
        endpoint_uri = self._endpoints.parse(draft.endpoint_uri).uri
        return replace(
            former,
            endpoint_uri=endpoint_uri,
            require_handshake=draft.require_handshake,
            consent=consent_kept(
                former, endpoint_uri=endpoint_uri, require_handshake=draft.require_handshake
            ),
            display_name=draft.display_name,
            filter=draft.filter,
            headers=dict(draft.headers),
            retry_policy=draft.retry_policy,
            timeout=draft.timeout,
            max_concurrent_attempts=draft.max_concurrent_attempts,
            ordered=draft.ordered,
            max_attempts_per_second=draft.max_attempts_per_second,
            allowed_ip_ranges=draft.allowed_ip_ranges,
            labels=dict(draft.labels),
        )


def _kept(headers: Mapping[str, str], stored: Mapping[str, str]) -> dict[str, str]:
    """Return headers with the stored values where they have none; upper and lower case are one."""
    values = {name.lower(): value for name, value in stored.items()}
    return {name: value or values.get(name.lower(), "") for name, value in headers.items()}
