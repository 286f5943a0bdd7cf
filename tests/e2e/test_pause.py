"""Pausing and resuming through the real service, a crash in between."""

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.subscription_service_pb2 import (
    PauseSubscriptionRequest,
    ResumeSubscriptionRequest,
)
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected


async def test_what_is_paused_waits_through_a_crash_until_it_is_resumed(
    service: Service, receiver: Receiver
) -> None:
    def paths() -> list[str]:
        return [request.path for request in receiver.requests]

    await service.start()
    await service.subscribe(receiver.url("/paused"), subscription_id="paused")
    await service.subscribe(receiver.url("/active"), subscription_id="active")
    pause = PauseSubscriptionRequest(subscription_id="paused")
    await service.subscriptions.PauseSubscription(pause)
    await service.publish(*(connected(f"before-{number}") for number in range(20)))
    await receiver.until(lambda: paths().count("/active") == 20)
    await service.kill()
    await service.start()
    await service.publish(connected("after"))
    await receiver.until(lambda: len({r.event_id for r in receiver.requests}) == 21)
    assert "/paused" not in paths()
    resume = ResumeSubscriptionRequest(subscription_id="paused")
    await service.subscriptions.ResumeSubscription(resume)
    deliveries = await service.drained()
    assert {one.state for one in deliveries} == {Delivery.SUCCEEDED}
    sent = [request.event_id for request in receiver.requests if request.path == "/paused"]
    assert sorted(sent) == sorted({one.event_id for one in deliveries})
    assert len(sent) == 21
