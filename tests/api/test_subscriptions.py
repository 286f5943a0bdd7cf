import asyncio
import base64
import logging
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.event_pb2 import EventFilter
from signalpost.v1.subscription_pb2 import RateLimits, RetryPolicy, SigningKey, Subscription
from signalpost.v1.subscription_service_pb2 import (
    CreateSubscriptionRequest,
    DeleteSubscriptionRequest,
    GetSubscriptionRequest,
    ListSubscriptionsRequest,
    RotateSubscriptionSecretRequest,
    RotateSubscriptionSecretResponse,
    UpdateSubscriptionRequest,
)
from tests.api.service import HOOK, Service, event, failure_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SECRET = "whsec_" + base64.b64encode(b"an own secret of thirty-two byte").decode()
CANARY = "Bearer canary-7f3a"


def secret_bytes(text: str) -> bytes:
    return base64.b64decode(text.removeprefix("whsec_"))


async def get(service: Service, name: str, tenant: str = "") -> Subscription:
    request = GetSubscriptionRequest(subscription_id=name, tenant_id=tenant)
    return (await service.subscriptions.GetSubscription(request)).subscription


async def rotate(service: Service, **fields: Any) -> RotateSubscriptionSecretResponse:
    request = RotateSubscriptionSecretRequest(**({"subscription_id": "crm"} | fields))
    return await service.subscriptions.RotateSubscriptionSecret(request)


async def stored_secrets(service: Service) -> list[bytes]:
    subscription = await service.store.get(TenantId(""), SubscriptionId("crm"))
    return [key.secret for key in subscription.signing_keys]


async def test_subscription_is_shown_as_it_was_made_with_its_defaults(service: Service) -> None:
    created = await service.subscribe(subscription_id="crm")
    shown = created.subscription
    assert shown == await get(service, "crm")
    assert shown.endpoint_uri == HOOK
    assert shown.state == Subscription.ACTIVE
    assert shown.retry_policy == RetryPolicy(
        max_attempts=20,
        min_backoff=Duration(seconds=5),
        max_backoff=Duration(seconds=6 * 3600),
        backoff_multiplier=3,
    )
    assert shown.rate_limits == RateLimits(max_concurrent_attempts=32)
    assert shown.timeout == Duration(seconds=15)
    assert shown.etag
    (key,) = shown.signing_keys
    assert key.algorithm == SigningKey.HMAC_SHA256
    assert not key.HasField("expire_time")
    assert len(secret_bytes(created.secret)) == 32
    assert await stored_secrets(service) == [secret_bytes(created.secret)]


async def test_every_field_that_is_set_is_kept(service: Service) -> None:
    fields: dict[str, Any] = {
        "subscription_id": "crm",
        "tenant_id": "acme",
        "display_name": "CRM",
        "filter": EventFilter(
            event_types=["account.*", "tool.list_changed"],
            resource_types=["account"],
            resource_ids=["a", "b"],
        ),
        "retry_policy": RetryPolicy(
            max_attempts=3,
            max_retry_duration=Duration(seconds=3600),
            min_backoff=Duration(seconds=1),
            max_backoff=Duration(seconds=2, nanos=500_000_000),
            backoff_multiplier=1.5,
        ),
        "rate_limits": RateLimits(max_concurrent_attempts=4, max_attempts_per_second=0.5),
        "timeout": Duration(seconds=3),
        "allowed_ip_ranges": ["198.41.0.0/24", "2606:4700::/32"],
        "labels": {"team": "sales"},
    }
    await service.subscribe(**fields)
    shown = await get(service, "crm", "acme")
    for name, value in fields.items():
        assert getattr(shown, name) == value, name


async def test_endpoint_is_stored_in_its_canonical_spelling(service: Service) -> None:
    await service.subscribe(subscription_id="crm", endpoint_uri="HTTPS://Hooks.Example.com:443")
    assert (await get(service, "crm")).endpoint_uri == "https://hooks.example.com/"


async def test_id_is_assigned_if_none_is_chosen(service: Service) -> None:
    names = {(await service.subscribe()).subscription.subscription_id for _ in range(2)}
    assert len(names) == 2
    for name in names:
        assert (await get(service, name)).subscription_id == name


async def test_repeated_creation_is_refused_and_changes_nothing(service: Service) -> None:
    request = CreateSubscriptionRequest(
        subscription=Subscription(subscription_id="crm", endpoint_uri=HOOK), secret=SECRET
    )
    created = await service.subscriptions.CreateSubscription(request)
    assert created.secret == SECRET
    for again in (
        request,
        CreateSubscriptionRequest(subscription=request.subscription, validate_only=True),
    ):
        failure = await failure_of(service.subscriptions.CreateSubscription(again))
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert failure.reason == "ALREADY_EXISTS"
        assert failure.resource == ("subscription", "crm")
    assert await stored_secrets(service) == [secret_bytes(SECRET)]


async def test_validate_only_shows_what_it_would_be_and_creates_nothing(service: Service) -> None:
    subscription = Subscription(subscription_id="crm", endpoint_uri="https://Hooks.Example.com")
    request = CreateSubscriptionRequest(subscription=subscription, validate_only=True)
    response = await service.subscriptions.CreateSubscription(request)
    assert response.subscription.endpoint_uri == "https://hooks.example.com/"
    assert response.secret == ""
    assert (await failure_of(get(service, "crm"))).code is grpc.StatusCode.NOT_FOUND


async def test_header_values_and_secrets_are_in_no_answer_and_no_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        created = await service.subscribe(
            subscription_id="crm", headers={"Authorization": CANARY, "X-Team": CANARY}
        )
        rotated = await rotate(service, secret=SECRET)
        listed = await service.subscriptions.ListSubscriptions(ListSubscriptionsRequest())
        shown = [created.subscription, rotated.subscription, await get(service, "crm")]
        shown += listed.subscriptions
        await service.publish(event())
    assert len(shown) == 4
    assert dict(shown[0].headers) == {"Authorization": "", "X-Team": ""}
    logged = "\n".join(str(vars(record)) for record in caplog.records)
    assert "subscription created" in logged
    assert "subscription secret rotated" in logged
    everything = logged + "".join(map(str, shown))
    for secret in (CANARY, SECRET.removeprefix("whsec_"), created.secret.removeprefix("whsec_")):
        assert secret not in everything


async def test_all_mistakes_of_a_subscription_are_reported_at_once(service: Service) -> None:
    failure = await failure_of(
        service.subscribe(
            subscription_id="Not ok",
            endpoint_uri="http://hooks.example.com/",
            filter=EventFilter(event_types=["account.*", "account.exploded"]),
            headers={"Host": "x", "X-Ok": "1", "X-Bad": f"{CANARY}\n"},
            allowed_ip_ranges=["10.0.0.1/8"],
        )
    )
    assert failure.code is INVALID
    assert failure.violations == {
        "subscription.subscription_id": "FIELD_INVALID",
        "subscription.allowed_ip_ranges[0]": "FIELD_INVALID",
        "subscription.endpoint_uri": "ENDPOINT_FORBIDDEN",
        'subscription.headers["Host"]': "FIELD_INVALID",
        'subscription.headers["X-Bad"]': "FIELD_INVALID",
        "subscription.filter.event_types[1]": "EVENT_TYPE_UNKNOWN",
    }
    assert CANARY.encode() not in failure.raw
    listed = await service.subscriptions.ListSubscriptions(ListSubscriptionsRequest(tenant_id="-"))
    assert not listed.subscriptions


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint_uri": "https://169.254.169.254/"},
        {"endpoint_uri": "https://127.0.0.1/"},
        {"endpoint_uri": "https://[::1]/"},
        {"endpoint_uri": "https://localhost/"},
        {"endpoint_uri": "https://user:pw@hooks.example.com/"},
        {"endpoint_uri": "https://198.41.0.4/", "allowed_ip_ranges": ["198.41.1.0/24"]},
        {"endpoint_uri": "https://" + "a" * 2048},
        {"endpoint_uri": "https://hooks.example.com:22/"},
        {"endpoint_uri": "https://hooks.example.com:25/"},
        {"endpoint_uri": "https://hooks.example.com:80/"},
        {"endpoint_uri": "https://198.41.0.4:6379/"},
        {"endpoint_uri": "https://hooks.example.com:0/"},
        {"endpoint_uri": "https://hooks.example.com:65536/"},
        {"endpoint_uri": "https://hooks.example.com:/"},
    ],
)
async def test_forbidden_endpoint_is_refused(service: Service, fields: dict[str, Any]) -> None:
    failure = await failure_of(service.subscribe(**fields))
    assert failure.reason == "ENDPOINT_FORBIDDEN"
    assert failure.violations == {"subscription.endpoint_uri": "ENDPOINT_FORBIDDEN"}


async def test_a_port_that_is_not_allowed_is_named_and_refused_in_changes_too(
    service: Service,
) -> None:
    stored = await service.subscribe(endpoint_uri="https://hooks.example.com:8443/")
    stored.subscription.endpoint_uri = "https://hooks.example.com:5432/"
    request = UpdateSubscriptionRequest(
        subscription=stored.subscription, update_mask=FieldMask(paths=["endpoint_uri"])
    )
    failure = await failure_of(service.subscriptions.UpdateSubscription(request))
    assert failure.reason == "ENDPOINT_FORBIDDEN"
    assert failure.violations == {"subscription.endpoint_uri": "ENDPOINT_FORBIDDEN"}
    assert b"has a port that this service does not connect to: 5432" in failure.raw


async def test_literal_address_within_the_ranges_is_accepted(service: Service) -> None:
    await service.subscribe(endpoint_uri="https://198.41.0.4/", allowed_ip_ranges=["198.41.0.0/24"])


async def test_missing_endpoint_is_reported_once(service: Service) -> None:
    failure = await failure_of(service.subscribe(endpoint_uri=""))
    assert failure.violations == {"subscription.endpoint_uri": "FIELD_INVALID"}


async def test_subscriptions_are_listed_by_id_and_page(service: Service) -> None:
    for name in ("c", "a", "b"):
        await service.subscribe(subscription_id=name)
    await service.subscribe(subscription_id="z", tenant_id="acme")
    request = ListSubscriptionsRequest(page_size=2)
    first = await service.subscriptions.ListSubscriptions(request)
    request.page_token = first.next_page_token
    second = await service.subscriptions.ListSubscriptions(request)
    pages = [[one.subscription_id for one in page.subscriptions] for page in (first, second)]
    assert pages == [["a", "b"], ["c"]]
    assert second.next_page_token == ""
    for fields, names in (
        ({"tenant_id": "-"}, ["a", "b", "c", "z"]),
        ({"tenant_id": "acme"}, ["z"]),
        ({"states": [Subscription.PAUSED]}, []),
        ({"event_type_name": "account.connected"}, ["a", "b", "c"]),
    ):
        everything = ListSubscriptionsRequest(**fields)
        listed = await service.subscriptions.ListSubscriptions(everything)
        assert [one.subscription_id for one in listed.subscriptions] == names


async def test_rotation_keeps_the_former_key_for_the_overlap(service: Service) -> None:
    created = await service.subscribe(subscription_id="crm")
    rotated = await rotate(service, overlap=Duration(seconds=60))
    newest, former = rotated.subscription.signing_keys
    assert former.key_id == created.subscription.signing_keys[0].key_id
    assert former.expire_time.ToDatetime() == created.subscription.create_time.ToDatetime() + (
        timedelta(seconds=60)
    )
    assert not newest.HasField("expire_time")
    assert rotated.subscription.etag != created.subscription.etag
    assert await stored_secrets(service) == [
        secret_bytes(rotated.secret),
        secret_bytes(created.secret),
    ]


async def test_rotation_without_overlap_drops_former_keys_at_once(service: Service) -> None:
    await service.subscribe(subscription_id="crm")
    await rotate(service)
    rotated = await rotate(service, overlap=Duration(), secret=SECRET)
    assert rotated.secret == SECRET
    assert await stored_secrets(service) == [secret_bytes(SECRET)]


async def test_rotations_at_the_same_time_all_count(service: Service) -> None:
    await service.subscribe(subscription_id="crm")
    rotated = await asyncio.gather(*(rotate(service) for _ in range(3)))
    stored = await stored_secrets(service)
    assert len(stored) == 4
    assert {secret_bytes(one.secret) for one in rotated} == set(stored[:3])


async def test_a_sixth_key_is_refused_until_one_expires(service: Service) -> None:
    await service.subscribe(subscription_id="crm")
    for _ in range(4):
        await rotate(service)
    failure = await failure_of(rotate(service))
    assert failure.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert failure.reason == "QUOTA_EXCEEDED"
    assert failure.details == ["ErrorInfo", "QuotaFailure"]
    assert len(await stored_secrets(service)) == 5
    service.clock.move(timedelta(hours=24))
    assert len((await rotate(service)).subscription.signing_keys) == 2


async def test_a_stale_etag_changes_nothing(service: Service) -> None:
    created = await service.subscribe(subscription_id="crm")
    stale = created.subscription.etag
    current = (await rotate(service, etag=stale)).subscription.etag
    before = await stored_secrets(service)
    delete = DeleteSubscriptionRequest(subscription_id="crm", etag=stale)
    for call in (rotate(service, etag=stale), service.subscriptions.DeleteSubscription(delete)):
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.ABORTED
        assert failure.reason == "ETAG_MISMATCH"
    assert await stored_secrets(service) == before
    delete.etag = current
    await service.subscriptions.DeleteSubscription(delete)


async def test_an_etag_of_a_deleted_one_does_not_match_one_of_the_same_name(
    service: Service,
) -> None:
    stale = (await service.subscribe(subscription_id="crm")).subscription.etag
    delete = DeleteSubscriptionRequest(subscription_id="crm")
    await service.subscriptions.DeleteSubscription(delete)
    service.clock.move(timedelta(microseconds=1))
    await service.subscribe(subscription_id="crm")
    delete.etag = stale
    for call in (rotate(service, etag=stale), service.subscriptions.DeleteSubscription(delete)):
        assert (await failure_of(call)).reason == "ETAG_MISMATCH"


async def test_deletion_cancels_what_waits_and_frees_the_id(service: Service) -> None:
    await service.subscribe(subscription_id="crm")
    stored = await service.store.get(TenantId(""), SubscriptionId("crm"))
    await service.publish(event(event_id="e1"), event(event_id="e2"))
    await service.subscriptions.DeleteSubscription(DeleteSubscriptionRequest(subscription_id="crm"))
    assert service.lanes.forgotten == [stored.lane_id]
    listed = await service.deliveries.ListDeliveries(ListDeliveriesRequest())
    assert [one.state for one in listed.deliveries] == [Delivery.CANCELED] * 2
    assert (await failure_of(get(service, "crm"))).code is grpc.StatusCode.NOT_FOUND
    await service.subscribe(subscription_id="crm")


async def test_deleting_what_is_not_there(service: Service) -> None:
    request = DeleteSubscriptionRequest(subscription_id="crm")
    failure = await failure_of(service.subscriptions.DeleteSubscription(request))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    request.allow_missing = True
    await service.subscriptions.DeleteSubscription(request)


async def test_subscription_of_another_tenant_is_like_a_missing_one(service: Service) -> None:
    await service.subscribe(subscription_id="crm", tenant_id="acme")
    for call in (
        get(service, "crm"),
        rotate(service),
        service.subscriptions.DeleteSubscription(DeleteSubscriptionRequest(subscription_id="crm")),
    ):
        failure = await failure_of(call)
        assert failure.code is grpc.StatusCode.NOT_FOUND
        assert failure.message == 'no subscription "crm"'
    assert (await get(service, "crm", "acme")).subscription_id == "crm"
