"""The whole engine on a real store, with every request held until a test lets it end."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Self

from signalpost.delivery.limiter import Limiter
from signalpost.delivery.pruner import Pruner
from signalpost.delivery.worker import LEASE
from signalpost.domain.address import EgressPolicy
from signalpost.domain.handshake import Consent
from signalpost.domain.ids import EventId, LaneId
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.replay import ReplayOrder
from signalpost.domain.retention import Retention
from signalpost.domain.subscription import Subscription
from signalpost.ports import WebhookRequest
from signalpost.publishing.repair import Repairer
from signalpost.publishing.replay import Replayer
from signalpost.store import Store
from signalpost.subscriptions.changing import Changer
from signalpost.subscriptions.endpoints import EndpointRules
from signalpost.subscriptions.keys import KeyRing
from signalpost.subscriptions.lifecycle import Lifecycle
from signalpost.subscriptions.register import Registrar
from tests.contract.blank import lay_out
from tests.contract.sqlite_file import KEY
from tests.delivery.engine import Clock, Engine, FakeSender

SLOTS = 8
"""All there are, and all lanes are of one tenant: they could have use for more than its share."""

PROMPT = timedelta(milliseconds=5)
RETENTION = Retention(delivered=timedelta(days=7), failed=timedelta(days=30))
_PATIENCE_SECONDS = 30


@dataclass(eq=False)
class Held:
    """A request under way. A `late` one outlived its lease, a `loose` one a change of order.

    `version` is that of its subscription when it began.
    """

    lane_id: LaneId
    event_id: EventId
    expires: datetime
    result: asyncio.Future[AttemptResult]
    late: bool = False
    loose: bool = False
    version: int = 0


class HeldSender(FakeSender):
    """Shows each request to `watch` as it begins, and holds it."""

    def __init__(self, clock: Clock, watch: Callable[[Held], None]) -> None:
        super().__init__()
        self.clock = clock
        self.watch = watch
        self.held: list[Held] = []
        self.begun = 0

    async def send(self, request: WebhookRequest) -> AttemptResult:
        event_id = EventId(request.headers["webhook-id"])
        held = Held(
            request.lane_id,
            event_id,
            self.clock.now() + LEASE,
            asyncio.get_running_loop().create_future(),
        )
        self.watch(held)
        self.held.append(held)
        self.begun += 1
        self.asked.set()
        try:
            return await held.result
        finally:
            self.held.remove(held)


class NoHandshake:
    """Asks nobody: none of these subscriptions requires it."""

    async def ask(self, subscription: Subscription) -> Consent:
        raise AssertionError(f"asked {subscription.endpoint_uri}")


@dataclass
class Workshop:
    """What one process runs. `kill` ends it as a crash does."""

    path: Path
    clock: Clock
    store: Store
    sender: HeldSender
    engine: Engine = field(init=False)

    @classmethod
    async def open(cls, path: Path, *, clock: Clock, watch: Callable[[Held], None]) -> Self:
        store = await Store.open(lay_out(path), master_key=KEY)
        workshop = cls(path, clock, store, HeldSender(clock, watch))
        await workshop.engine.rescuer.start()
        return workshop

    def __post_init__(self) -> None:
        self.engine = Engine(
            self.store,
            clock=self.clock,
            sender=self.sender,
            slots=SLOTS,
            host_limit=4,
            host_failures=1,
        )
        numbers = itertools.count()
        changer = Changer(self.store, clock=self.clock)
        lanes = self.engine.lanes
        self.lifecycle = Lifecycle(changer, lanes=lanes)
        self.registrar = Registrar(
            self.store,
            lanes=lanes,
            clock=self.clock,
            new_id=lambda: str(next(numbers)),
            keys=KeyRing(changer, new_id=lambda: str(next(numbers)), entropy=bytes),
            endpoints=EndpointRules(policy=EgressPolicy(), dev=False),
            asker=NoHandshake(),
        )
        repairs = self.store.repairs
        self.repairer = Repairer(repairs, deliveries=self.store, lanes=lanes, clock=self.clock)
        self.replayer = Replayer(repairs, lanes=lanes, clock=self.clock)
        self.pruner = Pruner(
            self.store.upkeep, counts=self.store.counts, clock=self.clock, retention=RETENTION
        )

    async def begin(self) -> int:
        """Start what may go now; return how many requests that made."""
        before = self.sender.begun
        count = await self.engine.worker.run_once()
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while self.sender.begun < before + count:
                self.sender.asked.clear()
                await self.sender.asked.wait()
        return count

    async def end(
        self, held: Held, outcome: Outcome, *, status_code: int = 0, latency: timedelta = PROMPT
    ) -> None:
        """Let a request end, and its outcome be recorded."""
        held.result.set_result(
            AttemptResult(outcome=outcome, latency=latency, status_code=status_code)
        )
        under_way = self.engine.worker._under_way
        count = len(under_way)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while len(under_way) == count:
                await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)

    async def replay(self, order: ReplayOrder) -> int:
        """Replay, and return how many deliveries that queued."""
        async with asyncio.TaskGroup() as group:
            replay = group.create_task(self.replayer.replay(order, request_id=None))
            await asyncio.sleep(0)
            while not replay.done():
                await self.replayer.run_once()
        return replay.result()

    async def keep_within(self, limit: int) -> None:
        """Let all lanes give up what they hold beyond a limit, or for too long."""
        lanes, upkeep = self.engine.lanes, self.store.upkeep
        limiter = Limiter(upkeep, lanes=lanes, clock=self.clock, limit=limit)
        while await limiter.run_once():
            pass

    async def prune(self) -> None:
        """Prune until a round ends."""
        while await self.pruner.run_once():
            pass

    async def kill(self) -> None:
        tasks = [*self.engine.worker._under_way]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.store.aclose()
