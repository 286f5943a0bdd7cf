"""SubscriptionService: administers subscriptions."""

from __future__ import annotations

from functools import partial

from signalpost.api.boundary import Context
from signalpost.api.checks import check, demand
from signalpost.api.convert_events import listed_tenant
from signalpost.api.convert_subscriptions import (
    catalogue_violations,
    subscription_draft,
    subscription_message,
)
from signalpost.api.convert_times import span
from signalpost.api.paging import Pager, fitting
from signalpost.domain.errors import RequestInvalid, Violation
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.signature import parse_secret
from signalpost.domain.subscription import DEFAULT_OVERLAP, State
from signalpost.ports import SubscriptionQuery, SubscriptionStore
from signalpost.subscriptions.keys import KeyRing
from signalpost.subscriptions.register import Registrar
from signalpost.v1.subscription_service_pb2 import (
    CreateSubscriptionRequest,
    CreateSubscriptionResponse,
    DeleteSubscriptionRequest,
    DeleteSubscriptionResponse,
    GetSubscriptionRequest,
    GetSubscriptionResponse,
    ListSubscriptionsRequest,
    ListSubscriptionsResponse,
    RotateSubscriptionSecretRequest,
    RotateSubscriptionSecretResponse,
)


class SubscriptionServicer:
    """Creates, gets, lists, deletes and re-keys subscriptions."""

    def __init__(
        self, registrar: Registrar, *, keys: KeyRing, subscriptions: SubscriptionStore, pager: Pager
    ) -> None:
        self._registrar = registrar
        self._keys = keys
        self._subscriptions = subscriptions
        self._pager = pager

    async def CreateSubscription(
        self, request: CreateSubscriptionRequest, _: Context
    ) -> CreateSubscriptionResponse:
        """Create a subscription; the response holds its secret."""
        found = self._violations(request)
        if found:
            raise RequestInvalid(found)
        keyed = await self._registrar.create(
            subscription_draft(request.subscription),
            secret=_secret(request.secret),
            validate_only=request.validate_only,
        )
        return CreateSubscriptionResponse(
            subscription=subscription_message(keyed.subscription), secret=keyed.secret
        )

    async def GetSubscription(
        self, request: GetSubscriptionRequest, _: Context
    ) -> GetSubscriptionResponse:
        """Show a subscription."""
        demand(request)
        subscription = await self._subscriptions.get(
            TenantId(request.tenant_id), SubscriptionId(request.subscription_id)
        )
        return GetSubscriptionResponse(subscription=subscription_message(subscription))

    async def ListSubscriptions(
        self, request: ListSubscriptionsRequest, _: Context
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
            subscription_message,
        )
        token = self._pager.token(request, next_after)
        return ListSubscriptionsResponse(subscriptions=shown, next_page_token=token)

    async def DeleteSubscription(
        self, request: DeleteSubscriptionRequest, _: Context
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
        self, request: RotateSubscriptionSecretRequest, _: Context
    ) -> RotateSubscriptionSecretResponse:
        """Give a subscription a new key; the response holds its secret."""
        demand(request)
        keyed = await self._keys.rotate(
            TenantId(request.tenant_id),
            SubscriptionId(request.subscription_id),
            etag=request.etag or None,
            overlap=span(request, "overlap", default=DEFAULT_OVERLAP),
            secret=_secret(request.secret),
        )
        return RotateSubscriptionSecretResponse(
            subscription=subscription_message(keyed.subscription), secret=keyed.secret
        )

    def _violations(self, request: CreateSubscriptionRequest) -> list[Violation]:
        """Say everything that is wrong, also beyond the shape, before anything is converted."""
        found = check(request)
        message = request.subscription
        if message.endpoint_uri:
            headers = dict(message.headers)
            found += self._registrar.violations(message.endpoint_uri, headers=headers)
        found += catalogue_violations(message.filter, path="subscription.filter")
        return found


def _secret(text: str) -> bytes | None:
    return parse_secret(text) if text else None
