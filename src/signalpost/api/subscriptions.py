"""SubscriptionService: administers subscriptions."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from signalpost.api.boundary import Call
from signalpost.api.checks import at_odds, check, demand, required
from signalpost.api.convert_events import listed_tenant
from signalpost.api.convert_subscriptions import (
    catalogue_violations,
    listed_message,
    sound_ip_ranges,
    subscription_draft,
    subscription_message,
)
from signalpost.api.convert_times import span
from signalpost.api.masks import chosen, mask_violations, merged
from signalpost.api.paging import Pager, fitting
from signalpost.api.probing import Rehearsal
from signalpost.domain.errors import RequestInvalid, Violation
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.signature import parse_secret
from signalpost.domain.subscription import DEFAULT_OVERLAP, Algorithm, State, Subscription
from signalpost.ports import SubscriptionQuery, SubscriptionStore
from signalpost.publishing.catalogue import Catalogue
from signalpost.subscriptions.keys import SECRET_REFUSED, KeyRing
from signalpost.subscriptions.lifecycle import Lifecycle
from signalpost.subscriptions.register import Registrar, SubscriptionDraft
from signalpost.v1.subscription_pb2 import Subscription as SubscriptionMessage
from signalpost.v1.subscription_service_pb2 import (
    CreateSubscriptionRequest,
    CreateSubscriptionResponse,
    DeleteSubscriptionRequest,
    DeleteSubscriptionResponse,
    GetSubscriptionRequest,
    GetSubscriptionResponse,
    ListSubscriptionsRequest,
    ListSubscriptionsResponse,
    PauseSubscriptionRequest,
    PauseSubscriptionResponse,
    ResumeSubscriptionRequest,
    ResumeSubscriptionResponse,
    RotateSubscriptionSecretRequest,
    RotateSubscriptionSecretResponse,
    TestSubscriptionRequest,
    TestSubscriptionResponse,
    UpdateSubscriptionRequest,
    UpdateSubscriptionResponse,
)

_UNCHANGED: Final = frozenset(
    {
        "subscription_id",
        "tenant_id",
        "state",
        "suspension_reason",
        "suspension_message",
        "signing_keys",
        "create_time",
        "update_time",
        "etag",
        "allowed_attempts_per_minute",
    }
)
"""Fields that no update changes: identifiers, and what is output only."""


class SubscriptionServicer:
    """Creates, gets, lists, changes and deletes subscriptions."""

    def __init__(
        self,
        registrar: Registrar,
        *,
        keys: KeyRing,
        lifecycle: Lifecycle,
        rehearsal: Rehearsal,
        subscriptions: SubscriptionStore,
        catalogue: Catalogue,
        pager: Pager,
    ) -> None:
        self._registrar = registrar
        self._keys = keys
        self._lifecycle = lifecycle
        self._rehearsal = rehearsal
        self._subscriptions = subscriptions
        self._catalogue = catalogue
        self._pager = pager

    async def CreateSubscription(
        self, request: CreateSubscriptionRequest, _: Call
    ) -> CreateSubscriptionResponse:
        """Create a subscription; the response holds its secret."""
        found = self._violations(request)
        if found:
            raise RequestInvalid(found)
        keyed = await self._registrar.create(
            subscription_draft(request.subscription),
            algorithm=_algorithm(request.algorithm) or Algorithm.HMAC_SHA256,
            secret=_secret(request.secret),
            validate_only=request.validate_only,
        )
        return CreateSubscriptionResponse(
            subscription=subscription_message(keyed.subscription), secret=keyed.secret
        )

    async def GetSubscription(
        self, request: GetSubscriptionRequest, _: Call
    ) -> GetSubscriptionResponse:
        """Show a subscription."""
        demand(request)
        subscription = await self._subscriptions.get(
            TenantId(request.tenant_id), SubscriptionId(request.subscription_id)
        )
        return GetSubscriptionResponse(subscription=subscription_message(subscription))

    async def ListSubscriptions(
        self, request: ListSubscriptionsRequest, _: Call
    ) -> ListSubscriptionsResponse:
        """Show a page of subscriptions."""
        demand(request)
        query = SubscriptionQuery(
            tenant_id=listed_tenant(request.tenant_id),
            states=frozenset(State(number) for number in request.states),
            event_type=request.event_type_name or None,
        )

        shown, next_after = await fitting(
            self._pager.page(request),
            partial(self._subscriptions.list_subscriptions, query),
            listed_message,
        )
        token = self._pager.token(request, next_after)
        return ListSubscriptionsResponse(subscriptions=shown, next_page_token=token)

    async def UpdateSubscription(
        self, request: UpdateSubscriptionRequest, _: Call
    ) -> UpdateSubscriptionResponse:
        """Change the fields of the mask."""
        given = request.subscription
        found = [*check(request), *mask_violations(given, request.update_mask)]
        if request.HasField("subscription") and not given.subscription_id:
            found.append(required("subscription.subscription_id"))
        if found:
            raise RequestInvalid(found)
        mask = chosen(given, request.update_mask, ignored=_UNCHANGED)

        def draw(former: Subscription) -> tuple[SubscriptionDraft, list[Violation]]:
            drawn = merged(subscription_message(former), given, mask)
            return subscription_draft(drawn), self._semantic_violations(drawn, mask)

        updated = await self._registrar.update(
            TenantId(given.tenant_id),
            SubscriptionId(given.subscription_id),
            draw,
            etag=given.etag or None,
            validate_only=request.validate_only,
        )
        return UpdateSubscriptionResponse(subscription=subscription_message(updated))

    async def PauseSubscription(
        self, request: PauseSubscriptionRequest, _: Call
    ) -> PauseSubscriptionResponse:
        """Stop deliveries."""
        demand(request)
        paused = await self._lifecycle.pause(
            TenantId(request.tenant_id), SubscriptionId(request.subscription_id)
        )
        return PauseSubscriptionResponse(subscription=subscription_message(paused))

    async def ResumeSubscription(
        self, request: ResumeSubscriptionRequest, _: Call
    ) -> ResumeSubscriptionResponse:
        """Let deliveries go on."""
        demand(request)
        resumed = await self._lifecycle.resume(
            TenantId(request.tenant_id), SubscriptionId(request.subscription_id)
        )
        return ResumeSubscriptionResponse(subscription=subscription_message(resumed))

    async def DeleteSubscription(
        self, request: DeleteSubscriptionRequest, _: Call
    ) -> DeleteSubscriptionResponse:
        """Delete a subscription and cancel what waits for it."""
        demand(request)
        await self._registrar.delete(
            TenantId(request.tenant_id),
            SubscriptionId(request.subscription_id),
            etag=request.etag or None,
            allow_missing=request.allow_missing,
        )
        return DeleteSubscriptionResponse()

    async def RotateSubscriptionSecret(
        self, request: RotateSubscriptionSecretRequest, _: Call
    ) -> RotateSubscriptionSecretResponse:
        """Give a subscription a new key; the response holds its secret."""
        demand(request)
        keyed = await self._keys.rotate(
            TenantId(request.tenant_id),
            SubscriptionId(request.subscription_id),
            etag=request.etag or None,
            overlap=span(request, "overlap", default=DEFAULT_OVERLAP),
            algorithm=_algorithm(request.algorithm),
            secret=_secret(request.secret),
        )
        return RotateSubscriptionSecretResponse(
            subscription=subscription_message(keyed.subscription), secret=keyed.secret
        )

    async def TestSubscription(
        self, request: TestSubscriptionRequest, call: Call
    ) -> TestSubscriptionResponse:
        """Send one event now, and tell how that went."""
        found = check(request)
        # What is wrong with an event is told with what else is.
        if any(not one.field.startswith("event.") for one in found):
            raise RequestInvalid(found)
        subscription = await self._subscriptions.get(
            TenantId(request.tenant_id), SubscriptionId(request.subscription_id)
        )
        traceparent = call.traceparent()
        return await self._rehearsal.run(request, subscription, traceparent=traceparent)

    def _violations(self, request: CreateSubscriptionRequest) -> list[Violation]:
        """Say everything that is wrong, also beyond the shape, before anything is converted."""
        found = check(request)
        message = request.subscription
        if message.endpoint_uri:
            found += self._registrar.violations(
                message.endpoint_uri,
                headers=dict(message.headers),
                allowed_ip_ranges=sound_ip_ranges(message),
            )
        else:
            found.append(required("subscription.endpoint_uri"))
        if request.secret and int(request.algorithm) == Algorithm.ED25519:
            found.append(SECRET_REFUSED)
        found += self._filter_violations(message)
        return found

    def _semantic_violations(self, drawn: SubscriptionMessage, mask: FieldMask) -> list[Violation]:
        """Say what is wrong with a changed subscription beyond the shape of its fields."""
        found = []
        if not drawn.endpoint_uri:
            found.append(required("subscription.endpoint_uri"))
        changed = {path.partition(".")[0] for path in mask.paths}
        if "filter" in changed:
            found += self._filter_violations(drawn)
        if "retry_policy" in changed:
            found += at_odds(drawn.retry_policy, "subscription.retry_policy")
        return found

    def _filter_violations(self, message: SubscriptionMessage) -> Iterator[Violation]:
        return catalogue_violations(message.filter, self._catalogue, path="subscription.filter")


def _algorithm(number: int) -> Algorithm | None:
    return Algorithm(number) if number else None


def _secret(text: str) -> bytes | None:
    return parse_secret(text) if text else None
