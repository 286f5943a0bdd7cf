"""Hundreds of receivers that misbehave, and what the real service makes of them."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import TypeVar

import pytest_asyncio
from google.protobuf.duration_pb2 import Duration

from signalpost.v1.delivery_pb2 import DeliveryAttempt
from signalpost.v1.delivery_service_pb2 import GetDeliveryRequest
from signalpost.v1.event_pb2 import Event, EventFilter, Resource
from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.conftest import Require
from tests.e2e.conftest import Authority
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected
from tests.sender import receivers as hostile
from tests.sender.hostile import HOSTILE, Hostile
from tests.sender.receivers import Receivers

T = TypeVar("T")
MOST_GROWTH = 32 * 2**20
CROWD = 200
PATIENCE = 4
"""Seconds of an attempt that ends only when its time is over."""

LONG = 20
AFTERWARDS = 1 + 1
"""Seconds that the body of an answer may take, and all else that an attempt consists of."""

MOST_OF_A_BODY = 256 * 1024
WARM = 20


@pytest_asyncio.fixture
async def receivers() -> AsyncIterator[Receivers]:
    started = Receivers()
    yield started
    await started.stop()


@dataclass
class Met:
    """A hostile receiver, and the attempt at it; `took` are the seconds until its record."""

    case: Hostile
    attempt: DeliveryAttempt
    took: float

    def as_it_must_be(self) -> bool:
        seen = self.attempt
        codes = [self.case.expected]
        if self.case.otherwise is not None:
            codes.append(self.case.otherwise)
        if self.case.request_bytes > MOST_OF_A_BODY:
            # What fits into the buffers of the system counts as written.
            codes = [(outcome, f"{code} or WAIT") for outcome, code in codes]
        return (
            any(
                seen.outcome == int(outcome) and seen.error_code in code.split(" or ")
                for outcome, code in codes
            )
            and seen.response_body.startswith(self.case.body.decode(errors="replace")[:2000])
            and (seen.status_code, seen.response_truncated)
            == (self.case.status, self.case.truncated)
            and self.took <= seconds_of(self.case) + AFTERWARDS
        )


class Crowd:
    """Hostile receivers, each with a subscription of its own to the same events."""

    def __init__(self, service: Service, receivers: Receivers) -> None:
        self._service = service
        self._receivers = receivers
        self._met: list[hostile.Receiver] = []
        self.cases: dict[str, Hostile] = {}

    async def gather(
        self, cases: Iterable[Hostile], tls: ssl.SSLContext | None = None, *, tenant: str = ""
    ) -> None:
        for case in cases:
            name = f"hostile-{len(self.cases)}"
            receiver = await self._receivers.start(case.behave, tls=tls)
            self._met.append(receiver)
            scheme = "https" if tls or case.tls else "http"
            subscription = Subscription(
                subscription_id=name,
                tenant_id=tenant,
                endpoint_uri=f"{scheme}://localhost:{receiver.port}/",
                filter=EventFilter(event_types=["account.connected"]),
                retry_policy=RetryPolicy(max_attempts=1),
                timeout=Duration(seconds=seconds_of(case)),
            )
            request = CreateSubscriptionRequest(subscription=subscription)
            await self._service.subscriptions.CreateSubscription(request)
            self.cases[name] = case

    def open(self) -> int:
        return sum(receiver.connections - receiver.closed.qsize() for receiver in self._met)

    def requests(self) -> int:
        return sum(len(receiver.requests) for receiver in self._met)

    async def attempts(self) -> list[Met]:
        """Wait until all have had the event; return what became of it."""
        found = []
        for delivery in await self._service.drained():
            if (case := self.cases.get(delivery.subscription_id)) is None:
                continue
            request = GetDeliveryRequest(delivery_id=delivery.delivery_id)
            whole = (await self._service.deliveries.GetDelivery(request)).delivery
            [attempt] = whole.attempts
            took = whole.end_time.ToDatetime() - attempt.start_time.ToDatetime()
            found.append(Met(case, attempt, took.total_seconds()))
        assert len(found) == len(self.cases)
        return found


class Healthy:
    """A receiver that behaves, and the deliveries that it got."""

    def __init__(self, service: Service, receiver: Receiver) -> None:
        self._service = service
        self._receiver = receiver
        self.deliveries = 0

    async def subscribe(self) -> None:
        await self._service.subscribe(self._receiver.url(), event_types=["tool.list_changed"])

    async def deliver(self) -> None:
        event = Event(resource=Resource(id="acc_1"))
        event.tool_list_changed.integration = "gmail"
        await self._service.publish(event)
        self.deliveries += 1
        await self._receiver.until(lambda: len(self._receiver.requests) == self.deliveries)

    async def deliver_during(self, work: asyncio.Task[T], *, most: int | None = None) -> T:
        """Deliver one after the other, `most` at most, until some work is done."""
        latest = None if most is None else self.deliveries + most
        while not work.done() and self.deliveries != latest:
            await self.deliver()
        return await work


def seconds_of(case: Hostile) -> int:
    return PATIENCE if case.seconds else LONG


class Memory:
    """That of a process, from now on."""

    def __init__(self, service: Service) -> None:
        assert service.process
        self._process = Path(f"/proc/{service.process.pid}")
        (self._process / "clear_refs").write_text("5")
        self._before = self._figure("VmRSS")

    def growth(self) -> int:
        """Return by how many bytes it grew at its peak."""
        return self._figure("VmHWM") - self._before

    def _figure(self, name: str) -> int:
        lines = (self._process / "status").read_text().splitlines()
        [line] = (line for line in lines if line.startswith(name))
        return int(line.split()[1]) * 1024


async def test_every_hostile_receiver_is_met_at_once_as_if_it_were_alone(
    service: Service, receivers: Receivers, receiver: Receiver, authority: Authority
) -> None:
    service.options = ("--dev", "--host-concurrency", "512")
    service.environment["PYTHONWARNINGS"] = "default::ResourceWarning"
    await service.start()
    crowd, healthy = Crowd(service, receivers), Healthy(service, receiver)
    await crowd.gather(HOSTILE)
    await crowd.gather([case for case in HOSTILE if not case.tls], authority.context)
    await healthy.subscribe()
    await service.publish(connected())
    met = await healthy.deliver_during(asyncio.create_task(crowd.attempts()))
    assert len(met) >= CROWD
    assert [each for each in met if not each.as_it_must_be()] == []
    assert crowd.requests() == sum(each.case.requests for each in met)
    assert healthy.deliveries > WARM
    assert all(line.isprintable() for line in service.log)
    # A descriptor that is closed twice may be another's by then.
    assert not [line for line in service.log if "unclosed" in line]


async def test_two_hundred_at_once_take_little_memory_and_delay_nobody(
    service: Service,
    receivers: Receivers,
    receiver: Receiver,
    authority: Authority,
    require: Require,
) -> None:
    require(Path("/proc/self/clear_refs").exists(), "needs /proc of Linux")
    await service.start()
    crowd, healthy = Crowd(service, receivers), Healthy(service, receiver)
    # One tenant alone may not have so many attempts at endpoints that nothing is known of.
    one, another = "tenant-1", "tenant-2"
    lasting = [case for case in HOSTILE if case.seconds]
    over_tls = [case for case in lasting if not case.tls]
    await crowd.gather(islice(cycle(lasting), CROWD // 2), tenant=one)
    await crowd.gather(islice(cycle(over_tls), CROWD // 2), authority.context, tenant=another)
    await healthy.subscribe()
    for _ in range(WARM):
        await healthy.deliver()
    memory = Memory(service)
    await service.publish(connected(tenant=one))
    await service.publish(connected(tenant=another))
    attempting = asyncio.create_task(crowd.attempts())
    before = healthy.deliveries
    while crowd.open() < CROWD:
        assert not attempting.done(), "they were not there at once"
        await healthy.deliver()
    # Not as many as can be: of what is delivered, storage keeps some in memory.
    met = await healthy.deliver_during(attempting, most=WARM)
    assert [each for each in met if not each.as_it_must_be()] == []
    assert healthy.deliveries >= before + WARM
    assert memory.growth() <= MOST_GROWTH
