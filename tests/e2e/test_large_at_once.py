"""Many large requests at once, to a service that has little memory."""

import asyncio
import os
from collections.abc import Awaitable, Iterator
from contextlib import suppress

import grpc
import grpc.aio
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_pb2 import Event
from signalpost.v1.event_service_pb2 import (
    PublishRequest,
    PublishStreamRequest,
    PublishStreamResponse,
    WatchEventsRequest,
)
from tests.api.service import failure_of
from tests.conftest import Require
from tests.e2e.control_group import MemoryGroup, can_bound_memory
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected
from tests.e2e.test_little_memory import MEMORY, large
from tests.e2e.test_publish_stream import stored

IDLE = 120
"""How many streams are open, so many that what they send at once is more than the memory."""

Stream = grpc.aio.StreamStreamCall[PublishStreamRequest, PublishStreamResponse]

CALLS = int(os.environ.get("SIGNALPOST_TEST_LARGE_CALLS", "32"))
"""How many large requests there are at once, half as many streams with them."""

THOUSANDS = 4000
"""How many small calls there are at once, none of them for long."""

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


async def send(call: Stream, *events: Event) -> list[str]:
    """Send events over a stream; return the IDs of what is accepted, none if it ends or ended."""
    if call.done():
        return []
    try:
        await call.write(PublishStreamRequest(events=events))
        answer = await call.read()
    except grpc.aio.AioRpcError as error:
        # So says this client of any stream that ends while it still sends.
        if error.details() != "Internal error from Core":
            await assert_it_may_come_again(call.read())
        return []
    assert isinstance(answer, PublishStreamResponse)
    return [item.result.event_id for item in answer.items]


async def watch(service: Service) -> None:
    """Ask for events by a request that is larger than it may be."""
    call = service.events.WatchEvents(WatchEventsRequest(cursor="a" * 7_000_000), timeout=60)
    failure = await failure_of(call.read())
    assert failure.reason in {"TOO_LARGE", "OVERLOADED"}


async def check(service: Service) -> None:
    """Ask for the health of a service of a very long name."""
    kind: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
    kind = service.channel.unary_unary("/grpc.health.v1.Health/Check")
    request = HealthCheckRequest(service="a" * 7_000_000)
    call = kind(request.SerializeToString(), timeout=60)
    with suppress(grpc.aio.AioRpcError):
        await call
    assert await call.code() in {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNAVAILABLE}


async def assert_it_may_come_again(call: Awaitable[object]) -> None:
    failure = await failure_of(call)
    assert (failure.code, failure.reason) == (grpc.StatusCode.UNAVAILABLE, "OVERLOADED")
    assert "RetryInfo" in failure.details


async def assert_stored(service: Service, accepted: list[str]) -> int:
    """Find all that is accepted, once; what a stream got no answer for may be there, too.

    Return how many events there are.
    """
    found = await stored(service)
    assert len(found) == len(set(found))
    assert set(accepted) <= set(found)
    assert all(one.startswith("stream") for one in set(found) - set(accepted))
    return len(found)


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
        *(
            send(service.events.PublishStream(timeout=60), *events_of(f"stream{number}"))
            for number in range(CALLS // 2)
        ),
    )
    await asyncio.gather(*(watch(service) for _ in range(CALLS)))
    await asyncio.gather(*(check(service) for _ in range(CALLS)))
    done.set()
    accepted = [*(one for answer in answers for one in answer), *await small]
    assert group.kills() == 0
    assert any(answers[:CALLS])
    assert any(answers[CALLS:])
    count = await assert_stored(service, accepted)
    deliveries = await service.drained()
    assert {delivery.state for delivery in deliveries} == {Delivery.SUCCEEDED}
    assert len(deliveries) == count
    assert group.kills() == 0
    assert await service.stop() == 0


async def test_many_idle_streams_hold_up_nobody_and_may_all_send_much_at_once(
    group: MemoryGroup, service: Service
) -> None:
    service.within = group.within
    await service.start()
    streams = [service.events.PublishStream() for _ in range(IDLE)]
    accepted: list[str] = []
    for number, call in enumerate(streams):
        accepted += await send(call, connected(f"idle-{number}"))
    assert len(accepted) == IDLE
    done = asyncio.Event()
    small = asyncio.create_task(publish_small(service, done))
    answers = await asyncio.gather(
        *(send(call, *events_of(f"stream{number}")) for number, call in enumerate(streams))
    )
    done.set()
    accepted += [*(one for answer in answers for one in answer), *await small]
    assert any(answers)
    again = [await send(call, connected(f"stream-again-{n}")) for n, call in enumerate(streams)]
    accepted += [one for answer in again for one in answer]
    assert any(again)
    await assert_stored(service, accepted)
    assert group.kills() == 0
    assert await service.stop() == 0


async def test_thousands_of_calls_at_once_are_answered_or_may_come_again(
    group: MemoryGroup, service: Service
) -> None:
    service.within = group.within
    await service.start()

    async def publish_one(number: int) -> list[str]:
        event = connected(f"e{number}")
        event.account_connected.user_id = "u" * 30_000
        call = service.events.Publish(PublishRequest(events=[event]), timeout=60)
        with suppress(grpc.aio.AioRpcError):
            return [(await call).results[0].event_id]
        # By us, or by gRPC, which gives no details.
        assert await call.code() is grpc.StatusCode.UNAVAILABLE
        return []

    answers = await asyncio.gather(*(publish_one(number) for number in range(THOUSANDS)))
    accepted = [one for answer in answers for one in answer]
    assert len(accepted) > THOUSANDS / 100
    assert sorted(await stored(service)) == sorted(accepted)
    assert group.kills() == 0
    assert await service.stop() == 0
