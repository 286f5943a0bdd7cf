"""Rotating while deliveries go on: no receiver misses a signature that it can verify."""

import asyncio
import base64

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from google.protobuf.duration_pb2 import Duration

from signalpost.v1.subscription_pb2 import SigningKey
from signalpost.v1.subscription_service_pb2 import RotateSubscriptionSecretRequest
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

ROTATIONS = 3


async def test_receivers_with_the_old_or_the_new_secret_verify_throughout(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    first = await service.subscribe(receiver.url(), subscription_id="s")
    stopped = asyncio.Event()

    async def publish_on() -> None:
        while not stopped.is_set():
            await service.publish(connected())

    publishing = asyncio.create_task(publish_on())
    newest, known_from = first, 0
    for _ in range(ROTATIONS):
        seen = len(receiver.requests)
        await receiver.until(lambda: len(receiver.requests) >= seen + 20)  # noqa: B023
        rotate = RotateSubscriptionSecretRequest(subscription_id="s")
        newest = (await service.subscriptions.RotateSubscriptionSecret(rotate)).secret
        known_from = len(receiver.requests)
    # What was under way at the rotation may have been signed before it.
    await receiver.until(lambda: len(receiver.requests) >= known_from + 80)
    stopped.set()
    await publishing
    await service.drained()
    for request in receiver.requests:
        request.verify(first)
    for request in receiver.requests[known_from + 40 :]:
        request.verify(newest)
    before = len(receiver.requests)
    drop = RotateSubscriptionSecretRequest(subscription_id="s", overlap=Duration())
    last = (await service.subscriptions.RotateSubscriptionSecret(drop)).secret
    await service.publish(connected())
    await service.drained()
    receiver.requests[before].verify(last)
    assert len(receiver.requests[before].headers["webhook-signature"].split(" ")) == 1


async def test_keys_of_both_algorithms_sign_side_by_side(
    service: Service, receiver: Receiver
) -> None:
    await service.start()
    secret = await service.subscribe(receiver.url(), subscription_id="s")
    change = RotateSubscriptionSecretRequest(subscription_id="s", algorithm=SigningKey.ED25519)
    rotated = await service.subscriptions.RotateSubscriptionSecret(change)
    assert rotated.secret == ""
    await service.publish(connected())
    await service.drained()
    [request] = receiver.requests
    request.verify(secret)
    newest, former = request.headers["webhook-signature"].split(" ")
    assert (newest.partition(",")[0], former.partition(",")[0]) == ("v1a", "v1")
    shown = rotated.subscription.signing_keys[0].public_key.removeprefix("whpk_")
    key = Ed25519PublicKey.from_public_bytes(base64.b64decode(shown))
    content = f"{request.event_id}.{request.headers['webhook-timestamp']}.".encode() + request.body
    key.verify(base64.b64decode(newest.removeprefix("v1a,")), content)
