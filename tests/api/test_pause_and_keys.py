"""Pausing, resuming, and keys of Ed25519."""

import base64

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.duration_pb2 import Duration

from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.signature import sign
from signalpost.v1.subscription_pb2 import SigningKey, Subscription
from signalpost.v1.subscription_service_pb2 import (
    CreateSubscriptionRequest,
    GetSubscriptionRequest,
    PauseSubscriptionRequest,
    ResumeSubscriptionRequest,
    RotateSubscriptionSecretRequest,
)
from tests.api.service import HOOK, Service, event, failure_of

SECRET = "whsec_" + base64.b64encode(bytes(32)).decode()


async def pause(service: Service) -> Subscription:
    request = PauseSubscriptionRequest(subscription_id="s")
    return (await service.subscriptions.PauseSubscription(request)).subscription


async def resume(service: Service) -> Subscription:
    request = ResumeSubscriptionRequest(subscription_id="s")
    return (await service.subscriptions.ResumeSubscription(request)).subscription


async def test_pausing_and_resuming_may_be_repeated(service: Service) -> None:
    created = (await service.subscribe(subscription_id="s")).subscription
    paused = await pause(service)
    assert (paused.state, await pause(service)) == (Subscription.PAUSED, paused)
    resumed = await resume(service)
    assert (resumed.state, await resume(service)) == (Subscription.ACTIVE, resumed)
    assert len({created.etag, paused.etag, resumed.etag}) == 3


async def test_what_is_published_meanwhile_queues_up_and_goes_on_resume(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    await pause(service)
    (result,) = (await service.publish(event())).results
    assert result.delivery_count == 1
    assert not service.lanes.noticed
    await resume(service)
    [(lanes, due)] = service.lanes.noticed
    assert len(lanes) == 1
    assert due == service.clock.now()


async def test_pausing_and_resuming_what_is_not_there_is_not_found(service: Service) -> None:
    for call in (pause(service), resume(service)):
        failure = await failure_of(call)
        assert (failure.code, failure.resource) == (
            grpc.StatusCode.NOT_FOUND,
            ("subscription", "s"),
        )


async def create(service: Service, *, secret: str = "") -> tuple[Subscription, str]:
    request = CreateSubscriptionRequest(
        subscription=Subscription(subscription_id="s", endpoint_uri=HOOK),
        algorithm=SigningKey.ED25519,
        secret=secret,
    )
    response = await service.subscriptions.CreateSubscription(request)
    return response.subscription, response.secret


async def test_of_an_ed25519_key_only_the_public_key_is_shown(service: Service) -> None:
    created, secret = await create(service)
    assert secret == ""
    [key] = created.signing_keys
    assert key.algorithm == SigningKey.ED25519
    stored = await service.store.get(TenantId(""), SubscriptionId("s"))
    text = created.SerializeToString()
    assert stored.signing_keys[0].secret not in text
    assert base64.b64encode(stored.signing_keys[0].secret) not in text
    signature = sign(stored.signing_keys, webhook_id="e", timestamp=1, body=b"{}")
    version, _, encoded = signature.partition(",")
    assert version == "v1a"
    public = Ed25519PublicKey.from_public_bytes(
        base64.b64decode(key.public_key.removeprefix("whpk_"))
    )
    public.verify(base64.b64decode(encoded), b"e.1.{}")


async def test_a_private_key_cannot_be_brought_along(service: Service) -> None:
    failure = await failure_of(create(service, secret=SECRET))
    assert failure.violations == {"secret": "FIELD_INVALID"}
    await create(service)
    rotate = RotateSubscriptionSecretRequest(subscription_id="s", secret=SECRET)
    refused = await failure_of(service.subscriptions.RotateSubscriptionSecret(rotate))
    assert refused.violations == {"secret": "FIELD_INVALID"}


async def test_a_rotation_keeps_the_algorithm_or_changes_it(service: Service) -> None:
    await create(service)
    for algorithm, expected in (
        (SigningKey.ALGORITHM_UNSPECIFIED, SigningKey.ED25519),
        (SigningKey.HMAC_SHA256, SigningKey.HMAC_SHA256),
        (SigningKey.ALGORITHM_UNSPECIFIED, SigningKey.HMAC_SHA256),
    ):
        rotate = RotateSubscriptionSecretRequest(subscription_id="s", algorithm=algorithm)
        response = await service.subscriptions.RotateSubscriptionSecret(rotate)
        assert response.subscription.signing_keys[0].algorithm == expected
        assert bool(response.secret) == (expected == SigningKey.HMAC_SHA256)
    drop = RotateSubscriptionSecretRequest(subscription_id="s", overlap=Duration())
    await service.subscriptions.RotateSubscriptionSecret(drop)
    request = GetSubscriptionRequest(subscription_id="s")
    shown = (await service.subscriptions.GetSubscription(request)).subscription
    assert [key.public_key for key in shown.signing_keys] == [""]
