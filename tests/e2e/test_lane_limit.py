"""The real service keeps lanes within their limit, and nobody else notices."""

import signal

import pytest

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import RetryDeliveryRequest
from signalpost.v1.event_service_pb2 import PublishResult
from signalpost.v1.subscription_service_pb2 import (
    PauseSubscriptionRequest,
    ResumeSubscriptionRequest,
)
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

LIMITED = ("--dev", "--lane-limit", "10")


async def _overfill(service: Service, receiver: Receiver) -> None:
    """Let 25 events wait for a paused subscription, while another one takes them."""
    await service.start()
    for name in ("paused", "other"):
        await service.subscribe(receiver.url(f"/{name}"), subscription_id=name)
    pause = PauseSubscriptionRequest(subscription_id="paused")
    await service.subscriptions.PauseSubscription(pause)
    await service.publish(*(connected(f"event-{number:02}") for number in range(25)))
    await receiver.until(lambda: len(receiver.requests) == 25)
    assert await service.stop() == 0
    service.options = LIMITED


async def _paused(service: Service) -> list[Delivery]:
    """Return the deliveries of the paused subscription, the oldest first."""
    found = await service.list_deliveries()
    assert {d.state for d in found if d.subscription_id == "other"} == {Delivery.SUCCEEDED}
    return [d for d in reversed(found) if d.subscription_id == "paused"]


async def test_the_oldest_above_the_limit_give_way_listed_and_replayable(
    service: Service, receiver: Receiver
) -> None:
    await _overfill(service, receiver)
    await service.start()
    await service.logged(
        "gave up the oldest deliveries of a lane that holds too much or stands too long"
    )
    held = await _paused(service)
    ends = [(d.state, d.failure_reason) for d in held]
    assert ends[:15] == [(Delivery.FAILED, Delivery.BACKLOG)] * 15
    assert ends[15:] == [(Delivery.PENDING, 0)] * 10
    [result] = await service.publish(connected("one-more"))
    assert (result.outcome, result.delivery_count) == (PublishResult.ACCEPTED, 2)

    resume = ResumeSubscriptionRequest(subscription_id="paused")
    await service.subscriptions.ResumeSubscription(resume)
    retry = RetryDeliveryRequest(delivery_id=held[0].delivery_id)
    await service.deliveries.RetryDelivery(retry)
    await service.drained()
    taken = sorted(r.event_id for r in receiver.requests if r.path == "/paused")
    assert taken == ["event-00", *(f"event-{n}" for n in range(15, 25)), "one-more"]
    assert await service.stop() == 0


@pytest.mark.parametrize("options", [LIMITED, ("--dev",)], ids=["again", "without-limit"])
async def test_killed_in_giving_up_all_still_wait(
    service: Service, receiver: Receiver, options: tuple[str, ...]
) -> None:
    await _overfill(service, receiver)
    assert await service.die_at("backlog.before_commit") == -signal.SIGKILL
    service.options = options
    await service.start()
    if options == LIMITED:
        await service.logged(
            "gave up the oldest deliveries of a lane that holds too much or stands too long"
        )
    waiting = [d for d in await _paused(service) if d.state == Delivery.PENDING]
    assert len(waiting) == (10 if options == LIMITED else 25)
    assert await service.stop() == 0
