"""Wherever the machine says that it is, times are UTC."""

from datetime import UTC, datetime, timedelta

import pytest

from signalpost.v1.delivery_pb2 import Delivery
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/St_Johns"])
async def test_the_zone_of_the_machine_shifts_nothing(
    service: Service, receiver: Receiver, zone: str
) -> None:
    async def fail_once(request: Request) -> int:
        return 503 if request.number == 0 else 200

    receiver.answer = fail_once
    service.environment["TZ"] = zone
    began = datetime.now(UTC)
    await service.start()
    secret = await service.subscribe(receiver.url())
    await service.publish(connected("event"))
    [delivery] = await service.drained()
    assert delivery.state == Delivery.SUCCEEDED
    about_now = began - timedelta(seconds=1), datetime.now(UTC) + timedelta(seconds=1)
    for request in receiver.requests:
        request.verify(secret)  # its timestamp is held to the clock, too
        told = request.json["timestamp"]
        assert told.endswith("Z")
        assert about_now[0] <= datetime.fromisoformat(told) <= about_now[1]
    for stored in (delivery.create_time, delivery.last_attempt.start_time, delivery.end_time):
        assert about_now[0] <= stored.ToDatetime(UTC) <= about_now[1]
    assert await service.stop() == 0
