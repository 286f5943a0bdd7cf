"""A service that may open few files."""

import asyncio
from pathlib import Path

from google.protobuf.duration_pb2 import Duration

from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

FILES = 256
TENANTS = ("", "acme", "beta")
"""One of them alone would have half of the slots."""

MUTE = 30
EVENTS = 10
"""Of each of the mute endpoints as many may be under way at once."""


async def test_few_files_make_it_slow_and_nobody_suffers_for_lack_of_them(
    service: Service, receiver: Receiver
) -> None:
    service.within = ("prlimit", f"--nofile={FILES}:{FILES}")
    await service.start()
    most = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal most
        assert service.process is not None
        most = max(most, sum(1 for _ in Path(f"/proc/{service.process.pid}/fd").iterdir()))
        await reader.read()
        writer.close()

    mute = await asyncio.start_server(accept, "127.0.0.1", 0, backlog=FILES * 2)
    port = mute.sockets[0].getsockname()[1]
    for number in range(MUTE):
        subscription = _impatient(f"http://127.0.0.1:{port}/{number}")
        subscription.tenant_id = TENANTS[number % len(TENANTS)]
        request = CreateSubscriptionRequest(subscription=subscription)
        await service.subscriptions.CreateSubscription(request)
    await service.subscribe(receiver.url("/healthy"))
    for tenant in TENANTS:
        events = [connected(f"event-{number}") for number in range(EVENTS)]
        for event in events:
            event.tenant_id = tenant
        await service.publish(*events)
    deliveries = await service.drained()
    states = [delivery.state for delivery in deliveries]
    assert states.count(Delivery.SUCCEEDED) == len(receiver.requests) == EVENTS
    assert states.count(Delivery.FAILED) == MUTE * EVENTS
    last = {delivery.last_attempt.outcome for delivery in deliveries}
    assert last == {DeliveryAttempt.SUCCEEDED, DeliveryAttempt.TIMED_OUT}
    # A quarter of the files is for attempts, and that many were under way at once.
    assert FILES // 4 < most < FILES
    assert await service.stop() == 0
    mute.close()


def _impatient(uri: str) -> Subscription:
    return Subscription(
        endpoint_uri=uri,
        timeout=Duration(seconds=1),
        retry_policy=RetryPolicy(max_attempts=1),
    )
