"""The delivery side on a real store, with a clock and a sender that tests control."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import uuid_utils

from signalpost.delivery.attempt import Attempter
from signalpost.delivery.lanes import LaneHome
from signalpost.delivery.rescuer import Rescuer
from signalpost.delivery.suspender import Suspender
from signalpost.delivery.targets import Targets
from signalpost.delivery.worker import Worker
from signalpost.domain.delivery import Delivery
from signalpost.domain.lane import UNLIMITED
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.ports import DeliveryQuery, PageRequest, WebhookRequest
from signalpost.store import Store
from signalpost.telemetry.tracing import UNTRACED, Tracing
from tests.contract.material import NOW, event


class Clock:
    """A clock that tests set; the wall clock is off by `jump`."""

    def __init__(self) -> None:
        self.time = NOW
        self.jump = timedelta()

    def now(self) -> datetime:
        return self.time

    def wall(self) -> datetime:
        return self.time + self.jump

    def advance(self, **time: float) -> None:
        self.time += timedelta(**time)


class FakeSender:
    """Answers from `outcomes` in turn, then with success; waits while its gate is shut."""

    def __init__(self) -> None:
        self.requests: list[WebhookRequest] = []
        self.outcomes: list[Outcome] = []
        self.asked = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: WebhookRequest) -> AttemptResult:
        self.requests.append(request)
        self.asked.set()
        await self.gate.wait()
        outcome = self.outcomes.pop(0) if self.outcomes else Outcome.SUCCEEDED
        return AttemptResult(outcome=outcome, latency=timedelta(milliseconds=5))


@dataclass
class Engine:
    """The delivery side on a real store, driven by hand."""

    store: Store
    clock: Clock = field(default_factory=Clock)
    sender: FakeSender = field(default_factory=FakeSender)
    slots: int = 100
    host_limit: int = UNLIMITED
    host_failures: int = UNLIMITED
    tracing: Tracing = UNTRACED

    def __post_init__(self) -> None:
        self.lanes = LaneHome(host_limit=self.host_limit, host_failures=self.host_failures)
        self.attempter = Attempter(
            targets=Targets(self.store),
            sender=self.sender,
            clock=self.clock,
            jitter=lambda: 1.0,
            user_agent="Signalpost/test",
            tracing=self.tracing,
        )
        self.worker = Worker(
            queue=self.store,
            lanes=self.lanes,
            attempter=self.attempter,
            suspender=Suspender(
                self.store.suspensions,
                lanes=self.lanes,
                clock=self.clock,
                new_id=lambda: str(uuid_utils.uuid7()),
            ),
            clock=self.clock,
            slots=self.slots,
        )
        self.rescuer = Rescuer(
            queue=self.store, subscriptions=self.store, lanes=self.lanes, clock=self.clock
        )

    async def work(self) -> int:
        """Deliver all that is due now; return how many attempts that took."""
        total = 0
        while started := await self.worker.run_once():
            total += started
            await self.worker.idle()
        return total

    async def publish(self, *event_ids: str) -> None:
        """Store events and tell the lanes, as publishing does."""
        now = self.clock.now()
        events = [event(event_id, content=event_id) for event_id in event_ids]
        for accepted in await self.store.accept(events, now=now):
            self.lanes.notice(accepted.lanes, due=now)

    async def deliveries(self) -> Sequence[Delivery]:
        """Return all deliveries with all their attempts, the oldest first."""
        query = DeliveryQuery(tenant_id=None)
        page = await self.store.list_deliveries(query, PageRequest(size=1000))
        return [await self.store.get_delivery(found.key) for found in reversed(page.items)]

    async def outcomes(self) -> list[str]:
        """Return the outcomes of the attempts of the only delivery."""
        [delivery] = await self.deliveries()
        return [attempt.result.outcome.name for attempt in delivery.attempts]
