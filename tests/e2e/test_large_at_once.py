"""Many large requests at once, to a service that has little memory."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Iterator

import grpc
import grpc.aio
import pytest

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import PublishRequest, PublishStreamRequest
from tests.api.service import failure_of
from tests.conftest import Require
from tests.e2e.control_group import MemoryGroup, can_bound_memory
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected
from tests.e2e.test_little_memory import MEMORY, large
from tests.e2e.test_publish_stream import stored

CALLS = int(os.environ.get("SIGNALPOST_TEST_LARGE_CALLS", "32"))
"""How many large requests there are at once, half as many streams with them."""

EVENTS = 15
"""In a request: together 3.6 MiB, a little less than there may be."""


@pytest.fixture
def group(require: Require) -> Iterator[MemoryGroup]:
    require(can_bound_memory(), "needs root and control groups")
    with MemoryGroup.of(MEMORY) as group:
        yield group


def events_of(name: str) -> list[Event]:
    return [large(f"{name}-{number}", tenant="") for number in range(EVENTS)]


async def publish(service: Service, name: str) -> list[str]:
    """Publish a large request; return the IDs of what is accepted, none if it must come again."""
    call = service.events.Publish(PublishRequest(events=events_of(name)), timeout=60)
    try:
        return [one.event_id for one in (await call).results]
    except grpc.aio.AioRpcError:
        await assert_it_may_come_again(call)
    return []


async def stream(service: Service, name: str) -> list[str]:
    """Do the same by a stream, which is held back for a while, and refused if that is too long."""

    async def requests() -> AsyncIterator[PublishStreamRequest]:
        yield PublishStreamRequest(events=events_of(name))

    call = service.events.PublishStream(requests(), timeout=60)
    try:
        return [item.result.event_id async for answer in call for item in answer.items]
    except grpc.aio.AioRpcError as error:
        # So says this client of any stream that ends while it still sends.
        if error.details() != "Internal error from Core":
            await assert_it_may_come_again(call.read())
    return []


async def assert_it_may_come_again(call: Awaitable[object]) -> None:
    failure = await failure_of(call)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
    assert "RetryInfo" in failure.details


async def publish_small(service: Service, done: asyncio.Event) -> list[str]:
    """Publish one small event after the other, each within the time that a call has."""
    accepted: list[str] = []
    while not done.is_set():
        request = PublishRequest(events=[connected(f"small-{len(accepted)}")])
        response = await service.events.Publish(request, timeout=10)
        accepted.append(response.results[0].event_id)
    return accepted


async def test_many_large_requests_wait_or_are_refused_and_small_ones_go_on(
    group: MemoryGroup, service: Service, receiver: Receiver
) -> None:
    service.within = group.within
    await service.start()
    await service.subscribe(receiver.url("/"))
    done = asyncio.Event()
    small = asyncio.create_task(publish_small(service, done))
    answers = await asyncio.gather(
        *(publish(service, f"u{number}") for number in range(CALLS)),
        *(stream(service, f"s{number}") for number in range(CALLS // 2)),
    )
    done.set()
    accepted = [*(one for answer in answers for one in answer), *await small]
    assert group.kills() == 0
    assert any(answers[:CALLS])
    assert any(answers[CALLS:])
    assert sorted(await stored(service)) == sorted(accepted)
    deliveries = await service.drained()
    assert {delivery.state for delivery in deliveries} == {Delivery.SUCCEEDED}
    assert len(deliveries) == len(accepted)
    assert group.kills() == 0
    assert await service.stop() == 0
