"""Order through the real service, with failures and kills, judged from outside."""

import asyncio
import os
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import grpc.aio

from signalpost.v1.delivery_pb2 import Delivery
from tests.e2e.checker import Findings, History, judge
from tests.e2e.crashes import leased
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

SIZE = os.environ.get("SIGNALPOST_TEST_ORDER_SIZE", "10 10 2")
"""Resources, events of each, and kills. Make it "100 200 10" before a release."""

RESOURCES, EVENTS, KILLS = map(int, SIZE.split())
FAILURES = 0.2
MOST_ATTEMPTS = 3
PATH = "/ordered"


@dataclass
class Endpoint:
    """Fails now and then, and for ever what is doomed; what it took it takes again."""

    taken: set[str] = field(default_factory=set)
    _random: random.Random = field(default_factory=lambda: random.Random(7))

    def took(self, count: int) -> bool:
        return len(self.taken) >= count

    async def answer(self, request: Request) -> int:
        name = request.event_id
        if name not in self.taken and (name.endswith("doomed") or self._random.random() < FAILURES):
            return 503
        self.taken.add(name)
        return 200


@dataclass
class Publisher:
    """Publishes the events of one resource, each once the one before is acknowledged."""

    resource: str
    history: History
    events: Iterator[str]
    unknown: str | None = None

    async def until_dead(self, service: Service) -> None:
        while event_id := self.unknown or next(self.events, None):
            self.unknown = event_id
            self.history.attempted.add(event_id)
            try:
                await service.publish(connected(event_id, resource=self.resource))
            except grpc.aio.AioRpcError:
                return
            self.history.acknowledged.add(event_id)
            self.history.in_order.setdefault(self.resource, []).append(event_id)
            self.unknown = None


def _names(resource: int) -> Iterator[str]:
    for number in range(EVENTS):
        yield f"r{resource}-{number}" + ("-doomed" if number == resource % EVENTS else "")


async def _load(service: Service, publishers: list[Publisher]) -> None:
    async with asyncio.TaskGroup() as group:
        for publisher in publishers:
            group.create_task(publisher.until_dead(service))


@dataclass
class Outcome:
    findings: Findings
    in_flight: int
    deliveries: list[Delivery]


async def _run(service: Service, receiver: Receiver, *, ordered: bool, kills: int) -> Outcome:
    """Publish everything, killing the service in between, and judge once all is over."""
    endpoint = Endpoint()
    receiver.answer = endpoint.answer
    history = History(frozenset({PATH}))
    publishers = [Publisher(f"acc_{r}", history, _names(r)) for r in range(RESOURCES)]
    await service.start()
    await service.subscribe(
        receiver.url(PATH), subscription_id="sub", max_attempts=MOST_ATTEMPTS, ordered=ordered
    )
    in_flight = 0
    for kill in range(1, kills + 1):
        load = asyncio.create_task(_load(service, publishers))
        enough = RESOURCES * EVENTS * kill // (2 * kills)
        await receiver.until(partial(endpoint.took, enough), seconds=600)
        await service.kill()
        await load
        in_flight += leased(service)
        await service.start()
    await _load(service, publishers)
    deliveries = await service.drained(seconds=600)
    findings = judge(history, receiver.requests, deliveries, {"sub": PATH})
    assert len(history.acknowledged) == RESOURCES * EVENTS
    return Outcome(findings, in_flight, deliveries)


async def test_the_order_of_each_resource_holds_over_failures_and_kills(
    service: Service, receiver: Receiver
) -> None:
    outcome = await _run(service, receiver, ordered=True, kills=KILLS)
    findings = outcome.findings
    assert findings.disordered == set()
    assert findings.lost == set()
    assert findings.unexpected == set()
    assert findings.disagreeing == set()
    assert findings.repeats <= outcome.in_flight
    failed = {d.event_id for d in outcome.deliveries if d.state == Delivery.FAILED}
    assert len([name for name in failed if name.endswith("doomed")]) == RESOURCES
    assert await service.stop() == 0


async def test_without_order_the_checker_finds_that_there_is_none(
    service: Service, receiver: Receiver
) -> None:
    outcome = await _run(service, receiver, ordered=False, kills=0)
    assert outcome.findings.disordered
    assert outcome.findings.lost == set()
