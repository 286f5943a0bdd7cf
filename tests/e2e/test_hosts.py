"""A host that never asked for webhooks, and those who send them to it."""

from itertools import count

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from tests.e2e.conftest import Authority
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

LIMIT, RATE = 4, 20
SUBSCRIPTIONS, EVENTS = 50, 4
OPTIONS = ("--dev", "--host-concurrency", str(LIMIT), "--host-failure-rate", str(RATE))


async def not_here(_: Request) -> int:
    return 404


async def starts(service: Service) -> list[float]:
    """Return when the service began the attempts that failed, by its own clock."""
    found = []
    for delivery in await service.list_deliveries():
        if delivery.attempt_count and delivery.subscription_id.startswith("bad"):
            request = GetDeliveryRequest(delivery_id=delivery.delivery_id)
            attempts = (await service.deliveries.GetDelivery(request)).delivery.attempts
            found += [attempt.start_time.ToNanoseconds() / 1e9 for attempt in attempts]
    return sorted(found)


async def test_fifty_endpoints_on_a_host_that_takes_nothing_are_no_flood(
    service: Service, receiver: Receiver, authority: Authority
) -> None:
    service.options = OPTIONS
    await service.start()
    receiver.answer = not_here
    for number in range(SUBSCRIPTIONS):
        url = receiver.url(f"/{number}")
        await service.subscribe(url, subscription_id=f"bad-{number}", tenant_id="acme")
    async with Receiver(authority.context_of("127.0.0.1")) as neighbour:
        url = f"https://127.0.0.1:{neighbour.port}/"
        await service.subscribe(url, subscription_id="other", tenant_id="acme")
        events = [connected(f"event-{number}") for number in range(EVENTS)]
        for event in events:
            event.tenant_id = "acme"
        await service.publish(*events)
        await neighbour.until(lambda: len(neighbour.requests) == EVENTS)
        await receiver.until(lambda: len(receiver.requests) > LIMIT + RATE)
        assert len(neighbour.requests) == EVENTS
    began = await starts(service)
    assert len(began) > RATE
    # However late the machine is: what has begun by a time is what may have, and no more.
    assert all(
        at - began[0] >= (number - LIMIT) / RATE for number, at in zip(count(), began, strict=False)
    )
    states = {d.state for d in await service.list_deliveries() if d.subscription_id != "other"}
    assert states == {Delivery.PENDING}
    assert await service.stop() == 0
