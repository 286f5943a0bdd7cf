"""Repairs of the real service, killed in the middle of each."""

import signal
from collections import Counter
from collections.abc import Awaitable
from uuid import uuid4

import grpc.aio
import pytest

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import (
    CancelDeliveriesRequest,
    ReplayDeliveriesRequest,
    RetryDeliveryRequest,
)
from signalpost.v1.subscription_service_pb2 import (
    PauseSubscriptionRequest,
    ResumeSubscriptionRequest,
)
from tests.e2e.receiver import Receiver, Request, ok
from tests.e2e.service import Service, connected

EVENTS = 250
"""More than two pages of a replay."""


async def refuse(_: Request) -> int:
    return 500


async def paused_with(service: Service, receiver: Receiver, count: int) -> None:
    """Let so many deliveries wait for a subscription that is paused."""
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s", max_attempts=1)
    await service.subscriptions.PauseSubscription(PauseSubscriptionRequest(subscription_id="s"))
    await service.publish(*(connected(f"e{number}") for number in range(count)))


async def resume(service: Service) -> None:
    request = ResumeSubscriptionRequest(subscription_id="s")
    await service.subscriptions.ResumeSubscription(request)


async def cancel(service: Service) -> int:
    request = CancelDeliveriesRequest(subscription_id="s")
    return (await service.deliveries.CancelDeliveries(request)).delivery_count


async def killed_in(service: Service, call: Awaitable[object]) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await call
    assert failure.value.code() == grpc.StatusCode.UNAVAILABLE
    assert await service.ended() == -signal.SIGKILL
    await service.start()


async def states(service: Service) -> Counter[str]:
    return Counter(Delivery.State.Name(one.state) for one in await service.list_deliveries())


def whole_range() -> ReplayDeliveriesRequest:
    request = ReplayDeliveriesRequest(subscription_id="s", request_id=str(uuid4()))
    request.start_time.FromSeconds(1)
    return request


async def test_killed_in_a_retry_the_delivery_is_as_it_was(
    service: Service, receiver: Receiver
) -> None:
    receiver.answer = refuse
    await service.start()
    await service.subscribe(receiver.url(), subscription_id="s", max_attempts=1)
    await service.publish(connected("e0"))
    [failed] = await service.drained()
    receiver.answer = ok
    await service.stop()
    await service.start(failpoint="retry.before_commit:kill")
    request = RetryDeliveryRequest(delivery_id=failed.delivery_id)
    await killed_in(service, service.deliveries.RetryDelivery(request))
    assert await service.list_deliveries() == [failed]
    await service.deliveries.RetryDelivery(request)
    [delivery] = await service.drained()
    assert (failed.state, delivery.state) == (Delivery.FAILED, Delivery.SUCCEEDED)
    assert [one.event_id for one in receiver.requests] == ["e0", "e0"]
    assert await service.stop() == 0


async def test_killed_in_a_cancellation_it_is_done_in_whole_steps(
    service: Service, receiver: Receiver
) -> None:
    await paused_with(service, receiver, EVENTS)
    await service.stop()
    await service.start(failpoint="cancel.before_commit:kill")
    await killed_in(service, cancel(service))
    assert await states(service) == {"PENDING": EVENTS}
    assert await cancel(service) == EVENTS
    assert await states(service) == {"CANCELED": EVENTS}
    assert receiver.requests == []
    assert await service.stop() == 0


@pytest.mark.parametrize("point", ["replay.before_commit", "replay.after_commit"])
async def test_killed_in_a_replay_it_goes_on_after_the_restart(
    service: Service, receiver: Receiver, point: str
) -> None:
    await paused_with(service, receiver, EVENTS)
    assert await cancel(service) == EVENTS
    await service.stop()
    await service.start(failpoint=f"{point}:kill")
    request = whole_range()
    await killed_in(service, service.deliveries.ReplayDeliveries(request))
    await service.logged("deliveries replayed")
    assert await states(service) == {"PENDING": EVENTS}
    replay = await service.deliveries.ReplayDeliveries(request)
    assert replay.delivery_count == EVENTS
    await resume(service)
    deliveries = await service.drained()
    assert {(one.state, one.attempt_count) for one in deliveries} == {(Delivery.SUCCEEDED, 1)}
    received = Counter(one.event_id for one in receiver.requests)
    assert received == {f"e{number}": 1 for number in range(EVENTS)}
    assert await service.stop() == 0
