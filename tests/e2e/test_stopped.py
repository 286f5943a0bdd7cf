"""A process that stands still for longer than its leases last, and then goes on."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest

from signalpost.delivery.worker import LEASE
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from tests.conftest import Require
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected
from tests.e2e.wall_clock import WallClock, has_compiler

IN_FLIGHT = 8
ENDS = {"SUCCEEDED", "TIMED_OUT, SUCCEEDED"}
STOPPED_SECONDS = 2 * int(LEASE.total_seconds())


async def stand_still(service: Service, wall: WallClock) -> None:
    """Stop the process; when it goes on two leases have passed."""
    assert service.process is not None
    service.process.send_signal(signal.SIGSTOP)
    status = Path(f"/proc/{service.process.pid}/status")
    while "(stopped)" not in status.read_text():
        pass
    wall.skip(STOPPED_SECONDS)


def go_on(service: Service) -> None:
    assert service.process is not None
    service.process.send_signal(signal.SIGCONT)


async def outcomes(service: Service, delivery: Delivery) -> str:
    request = GetDeliveryRequest(delivery_id=delivery.delivery_id)
    found = (await service.deliveries.GetDelivery(request)).delivery
    assert [attempt.number for attempt in found.attempts] == [1, 2][: len(found.attempts)]
    return ", ".join(DeliveryAttempt.Outcome.Name(attempt.outcome) for attempt in found.attempts)


@pytest.mark.parametrize("answered", [False, True], ids=["not answered", "answered"])
async def test_what_was_in_flight_is_repeated_once_at_most_and_never_recorded_twice(
    service: Service, receiver: Receiver, tmp_path: Path, require: Require, *, answered: bool
) -> None:
    require(has_compiler(), "needs a C compiler")
    wall = WallClock.make(tmp_path)
    service.environment |= wall.environment
    answer = asyncio.Event()

    async def hold_the_first(request: Request) -> int:
        if request.number < IN_FLIGHT:
            await answer.wait()
        return 200

    receiver.answer = hold_the_first
    await service.start()
    await service.subscribe(receiver.url())
    await service.publish(*(connected(f"e{number}") for number in range(IN_FLIGHT)))
    await receiver.until(lambda: len(receiver.requests) == IN_FLIGHT)
    await stand_still(service, wall)
    if answered:
        answer.set()
        await receiver.until(lambda: all(request.answered for request in receiver.requests))
    go_on(service)
    deliveries = await service.drained()
    answer.set()
    assert {delivery.state for delivery in deliveries} == {Delivery.SUCCEEDED}
    histories = Counter([await outcomes(service, delivery) for delivery in deliveries])
    lost = histories.pop("INTERRUPTED, SUCCEEDED", 0)
    if answered:
        # The timeout may be heard of before the answer, and both before the end of the lease.
        assert histories.keys() <= ENDS
    else:
        assert lost == IN_FLIGHT
    assert len(receiver.requests) == IN_FLIGHT + lost + histories["TIMED_OUT, SUCCEEDED"]
    late = [line for line in service.log if '"verdict":"lease lost"' in line]
    assert len(late) == lost
    assert await service.stop() == 0
