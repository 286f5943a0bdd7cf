"""The real service on a machine whose wall clock somebody sets."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.event_service_pb2 import PublishResult
from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.conftest import Require
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected
from tests.e2e.wall_clock import WallClock, has_compiler

HOURS, YEARS = 2 * 3600, 3653 * 86_400
JUMPS = {"hours on": HOURS, "hours back": -HOURS, "years on": YEARS}


@pytest.fixture
def wall(service: Service, tmp_path: Path, require: Require) -> WallClock:
    require(has_compiler(), "needs a C compiler")
    wall = WallClock.make(tmp_path)
    service.environment |= wall.environment
    return wall


async def subscribe(service: Service, url: str) -> None:
    """Retry every second, and wait for an answer as long as may be."""
    second = Duration(seconds=1)
    subscription = Subscription(
        endpoint_uri=url,
        timeout=Duration(seconds=30),
        retry_policy=RetryPolicy(min_backoff=second, max_backoff=second),
    )
    await service.subscriptions.CreateSubscription(
        CreateSubscriptionRequest(subscription=subscription)
    )


async def test_jumps_while_it_runs_cost_no_lease_and_no_attempt(
    service: Service, receiver: Receiver, wall: WallClock
) -> None:
    over = asyncio.Event()
    seen: Counter[tuple[str, str]] = Counter()
    off, wrong = 0, []

    async def answer(request: Request) -> int:
        told = int(request.headers["webhook-timestamp"])
        if abs(told - time.time() - off) > 60:
            wrong.append(told)
        seen[request.path, request.event_id] += 1
        if request.path == "/held":
            await over.wait()
            return 200
        return 500 if seen["/retried", request.event_id] < 3 else 200

    def sent(event_id: str, *, times: int) -> Callable[[], bool]:
        return lambda: seen["/held", event_id] == 1 and seen["/retried", event_id] == times

    receiver.answer = answer
    await service.start()
    for path in ("/held", "/retried"):
        await subscribe(service, receiver.url(path))
    for number, jump in enumerate(JUMPS.values()):
        name = f"e{number}"
        await service.publish(connected(name))
        await receiver.until(sent(name, times=1))
        wall.set_off(jump)
        # The request before was told another time, and the next comes a second later.
        off = jump
        await receiver.until(sent(name, times=3))
    over.set()
    deliveries = await service.drained()
    assert {found.state for found in deliveries} == {Delivery.SUCCEEDED}
    assert Counter(found.attempt_count for found in deliveries) == {1: 3, 3: 3}
    assert wrong == []
    assert await service.stop() == 0


@pytest.mark.parametrize("jump", JUMPS.values(), ids=JUMPS)
async def test_a_jump_over_a_restart_freezes_no_delivery_and_burns_no_schedule(
    service: Service, receiver: Receiver, wall: WallClock, jump: int
) -> None:
    works = False

    async def answer(_: Request) -> int:
        return 200 if works else 500

    receiver.answer = answer
    await service.start()
    await subscribe(service, receiver.url())
    await service.publish(connected("event"))
    await receiver.until(lambda: len(receiver.requests) == 2)
    assert await service.stop() == 0
    wall.set_off(jump)
    before = len(receiver.requests)
    await service.start()
    await receiver.until(lambda: len(receiver.requests) >= before + 2, seconds=30)
    works = True
    [delivery] = await service.drained()
    assert delivery.state == Delivery.SUCCEEDED
    assert delivery.attempt_count == len(receiver.requests) < 20
    assert await service.stop() == 0


async def test_a_clock_that_is_wrong_at_a_start_costs_no_stored_event_at_once(
    service: Service, receiver: Receiver, wall: WallClock
) -> None:
    await service.start()
    await subscribe(service, receiver.url())
    await service.publish(connected("old"))
    await service.drained()
    assert await service.stop() == 0
    wall.set_off(YEARS)

    def took(count: int) -> bool:
        return len(receiver.requests) == count

    await service.start()
    assert any("nothing was published for long" in line for line in service.log)
    for number in range(10):
        await service.publish(connected(f"new-{number}"))
        await receiver.until(partial(took, number + 2))
    [again] = await service.publish(connected("old"))
    assert again.outcome == PublishResult.DUPLICATE
    assert await service.stop() == 0
