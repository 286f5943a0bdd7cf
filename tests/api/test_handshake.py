"""`require_handshake`: when an endpoint is asked, and what depends on its answer."""

from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.v1 import subscription_service_pb2 as rpc
from signalpost.v1.subscription_pb2 import RateLimits, Subscription
from tests.api.service import HOOK, Service, failure_of

OTHER = "https://elsewhere.example.com/in"
UNVERIFIED = (grpc.StatusCode.FAILED_PRECONDITION, "ENDPOINT_UNVERIFIED")


async def update(
    service: Service, *paths: str, etag: str = "", validate_only: bool = False, **fields: Any
) -> Subscription:
    request = rpc.UpdateSubscriptionRequest(
        subscription=Subscription(subscription_id="s", etag=etag, **fields),
        update_mask=FieldMask(paths=paths) if paths else None,
        validate_only=validate_only,
    )
    return (await service.subscriptions.UpdateSubscription(request)).subscription


async def current(service: Service) -> Subscription:
    request = rpc.GetSubscriptionRequest(subscription_id="s")
    return (await service.subscriptions.GetSubscription(request)).subscription


async def agreed(service: Service, *, rate: str | None = None, **fields: Any) -> Subscription:
    """Create a subscription whose endpoint agreed, and forget that it was asked."""
    service.asked.agree(rate=rate)
    created = await service.subscribe(subscription_id="s", require_handshake=True, **fields)
    service.asked.requests.clear()
    return created.subscription


def refuse(service: Service) -> None:
    service.asked.status, service.asked.headers = 405, ()


async def test_consent_is_asked_for_as_deliveries_are_sent(service: Service) -> None:
    service.asked.agree(rate="120")
    created = await service.subscribe(
        subscription_id="s",
        headers={"Authorization": "Bearer x"},
        require_handshake=True,
        rate_limits=RateLimits(max_attempts_per_second=5),
        allowed_ip_ranges=["198.41.0.0/24"],
        timeout={"seconds": 7},
    )
    [request] = service.asked.requests
    assert (request.endpoint_uri, request.body, request.timeout.seconds) == (HOOK, b"", 7)
    assert [str(one) for one in request.allowed_ip_ranges] == ["198.41.0.0/24"]
    assert request.headers == {
        "Authorization": "Bearer x",
        "accept-encoding": "identity",
        "connection": "close",
        "user-agent": "Signalpost/test",
        "webhook-request-origin": "signalpost.test",
        "webhook-request-rate": "300",
    }
    assert created.secret
    shown = await current(service)
    assert created.subscription == shown
    assert (shown.require_handshake, shown.allowed_attempts_per_minute) == (True, 120)
    stored = await service.store.get(TenantId(""), SubscriptionId("s"))
    assert stored.lane.max_per_second == 2


async def test_without_the_field_nobody_is_asked(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    await update(service, endpoint_uri=OTHER)
    assert service.asked.requests == []


async def test_a_refusal_stores_nothing_and_says_why(service: Service) -> None:
    failure = await failure_of(service.subscribe(subscription_id="s", require_handshake=True))
    assert (failure.code, failure.reason) == UNVERIFIED
    assert failure.metadata == {"statusCode": "405"}
    assert failure.details == ["ErrorInfo", "PreconditionFailure"]
    assert "it answered OPTIONS with 405" in failure.message
    missing = await failure_of(current(service))
    assert missing.code is grpc.StatusCode.NOT_FOUND
    service.asked.agree()
    assert (await service.subscribe(subscription_id="s", require_handshake=True)).secret


async def test_what_fails_anyway_asks_nobody(service: Service) -> None:
    await agreed(service)
    exists = await failure_of(service.subscribe(subscription_id="s", require_handshake=True))
    assert exists.code is grpc.StatusCode.ALREADY_EXISTS
    invalid = await failure_of(
        service.subscribe(require_handshake=True, endpoint_uri="https://10.0.0.1/")
    )
    assert invalid.reason == "ENDPOINT_FORBIDDEN"
    stale = await failure_of(update(service, etag="99", endpoint_uri=OTHER))
    assert stale.reason == "ETAG_MISMATCH"
    assert service.asked.requests == []


async def test_validating_asks_nobody(service: Service) -> None:
    request = rpc.CreateSubscriptionRequest(
        subscription=Subscription(endpoint_uri=HOOK, require_handshake=True), validate_only=True
    )
    shown = (await service.subscriptions.CreateSubscription(request)).subscription
    assert shown.require_handshake
    before = await agreed(service, rate="60")
    shown = await update(service, endpoint_uri=OTHER, validate_only=True)
    assert (shown.endpoint_uri, shown.allowed_attempts_per_minute) == (OTHER, 0)
    assert service.asked.requests == []
    assert await current(service) == before


@pytest.mark.parametrize("paths", [[], ["endpoint_uri"]])
async def test_a_new_endpoint_is_asked_with_the_headers_that_are_kept(
    service: Service, paths: list[str]
) -> None:
    await agreed(service, rate="60", headers={"Authorization": "Bearer kept"})
    service.asked.agree(rate="30")
    after = await update(service, *paths, endpoint_uri=OTHER)
    [request] = service.asked.requests
    assert (request.endpoint_uri, request.headers["Authorization"]) == (OTHER, "Bearer kept")
    assert (after.endpoint_uri, after.allowed_attempts_per_minute) == (OTHER, 30)
    assert after == await current(service)


async def test_a_new_endpoint_that_refuses_changes_nothing(service: Service) -> None:
    before = await agreed(service, rate="60")
    refuse(service)
    failure = await failure_of(update(service, endpoint_uri=OTHER, display_name="new"))
    assert (failure.code, failure.reason) == UNVERIFIED
    assert await current(service) == before


async def test_a_paused_one_is_asked_too(service: Service) -> None:
    await agreed(service)
    await service.subscriptions.PauseSubscription(rpc.PauseSubscriptionRequest(subscription_id="s"))
    refuse(service)
    failure = await failure_of(update(service, endpoint_uri=OTHER))
    assert failure.reason == "ENDPOINT_UNVERIFIED"
    service.asked.agree()
    after = await update(service, endpoint_uri=OTHER)
    assert (after.state, after.endpoint_uri) == (Subscription.PAUSED, OTHER)


async def test_what_may_be_secret_in_a_uri_is_not_repeated(service: Service) -> None:
    failure = await failure_of(
        service.subscribe(
            require_handshake=True,
            endpoint_uri="https://hooks.example.com/canary?token=canary",
            headers={"X-Token": "canary"},
        )
    )
    assert failure.reason == "ENDPOINT_UNVERIFIED"
    assert b"hooks.example.com" in failure.raw
    assert b"canary" not in failure.raw


async def test_turned_on_it_asks_the_endpoint_that_is_there(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    refuse(service)
    before = await current(service)
    failure = await failure_of(update(service, "require_handshake", require_handshake=True))
    assert failure.reason == "ENDPOINT_UNVERIFIED"
    assert await current(service) == before
    service.asked.agree(rate="9")
    after = await update(service, "require_handshake", require_handshake=True)
    assert (after.require_handshake, after.allowed_attempts_per_minute) == (True, 9)
    assert [one.endpoint_uri for one in service.asked.requests] == [HOOK, HOOK]


@pytest.mark.parametrize(
    "fields",
    [
        {"display_name": "new"},
        {"endpoint_uri": HOOK},
        {"require_handshake": True},
        {"endpoint_uri": "https://HOOKS.example.com:443/in", "require_handshake": True},
        {"rate_limits": RateLimits(max_attempts_per_second=500)},
        {"headers": {"X-New": "1"}},
    ],
)
async def test_other_changes_ask_nobody_and_keep_what_was_allowed(
    service: Service, fields: dict[str, Any]
) -> None:
    await agreed(service, rate="60")
    refuse(service)
    after = await update(service, **fields)
    assert (after.require_handshake, after.allowed_attempts_per_minute) == (True, 60)
    stored = await service.store.get(TenantId(""), SubscriptionId("s"))
    assert stored.lane.max_per_second == 1
    assert service.asked.requests == []


@pytest.mark.parametrize("path", ["require_handshake", "*"])
async def test_turned_off_it_forgets_what_was_allowed(service: Service, path: str) -> None:
    await agreed(service, rate="60")
    after = await update(service, path, endpoint_uri=HOOK)
    assert (after.require_handshake, after.allowed_attempts_per_minute) == (False, 0)
    stored = await service.store.get(TenantId(""), SubscriptionId("s"))
    assert (stored.consent, stored.lane.max_per_second) == (None, None)
    refuse(service)
    failure = await failure_of(update(service, "require_handshake", require_handshake=True))
    assert failure.reason == "ENDPOINT_UNVERIFIED"


async def test_a_change_meanwhile_goes_in_too_and_asks_once(service: Service) -> None:
    await agreed(service)

    async def rename() -> None:
        await update(service, display_name="meanwhile")

    service.asked.meanwhile = rename
    after = await update(service, endpoint_uri=OTHER)
    assert (after.endpoint_uri, after.display_name) == (OTHER, "meanwhile")
    assert [one.endpoint_uri for one in service.asked.requests] == [OTHER]


async def test_a_change_meanwhile_is_not_overwritten_under_an_etag(service: Service) -> None:
    before = await agreed(service)

    async def rename() -> None:
        await update(service, display_name="meanwhile")

    service.asked.meanwhile = rename
    failure = await failure_of(update(service, etag=before.etag, endpoint_uri=OTHER))
    assert failure.code is grpc.StatusCode.ABORTED
    after = await current(service)
    assert (after.endpoint_uri, after.display_name) == (HOOK, "meanwhile")


async def test_an_endpoint_meanwhile_turned_to_another_use_is_asked_itself(
    service: Service,
) -> None:
    await service.subscribe(subscription_id="s")
    service.asked.agree()

    async def move() -> None:
        await update(service, endpoint_uri=OTHER)

    service.asked.meanwhile = move
    after = await update(service, "require_handshake", require_handshake=True)
    assert (after.endpoint_uri, after.require_handshake) == (OTHER, True)
    assert [one.endpoint_uri for one in service.asked.requests] == [HOOK, OTHER]


async def test_one_deleted_meanwhile_stays_so(service: Service) -> None:
    await agreed(service)

    async def delete() -> None:
        request = rpc.DeleteSubscriptionRequest(subscription_id="s")
        await service.subscriptions.DeleteSubscription(request)

    service.asked.meanwhile = delete
    failure = await failure_of(update(service, endpoint_uri=OTHER))
    assert failure.code is grpc.StatusCode.NOT_FOUND


async def test_one_created_meanwhile_stays_as_it_is(service: Service) -> None:
    service.asked.agree()

    async def create() -> None:
        await service.subscribe(subscription_id="s", display_name="first")

    service.asked.meanwhile = create
    failure = await failure_of(service.subscribe(subscription_id="s", require_handshake=True))
    assert failure.code is grpc.StatusCode.ALREADY_EXISTS
    assert (await current(service)).display_name == "first"
