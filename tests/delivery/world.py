"""Endpoints in virtual time: how they answer, and how much they are asked at once."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from signalpost.domain.outcome import AttemptResult, Outcome, outcome_of_status
from signalpost.ports import WebhookRequest
from tests.delivery.engine import Clock, Engine


@dataclass(frozen=True)
class Answer:
    """A status, or 0 for a connection that is refused, and after how long it comes."""

    status: int = 200
    seconds: float = 0.0
    retry_after: str = ""


@dataclass
class Call:
    """A request as the endpoint saw it: when, beside how many others, and its answer."""

    at: datetime
    uri: str
    width: int
    status: int


@dataclass
class Endpoints:
    """A sender whose requests take the time that their endpoints need.

    `behave` says how one answers that is asked so much at once, the new request included.
    """

    clock: Clock
    behave: Callable[[str, int], Answer]
    calls: list[Call] = field(default_factory=list)
    in_flight: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._numbers = count()
        self.asked = asyncio.Event()
        self._pending: list[tuple[datetime, int, asyncio.Future[None]]] = []

    async def send(self, request: WebhookRequest) -> AttemptResult:
        """Answer once the clock has come so far."""
        uri = request.endpoint_uri
        self.in_flight[uri] = width = self.in_flight.get(uri, 0) + 1
        answer = self.behave(uri, width)
        self.calls.append(Call(self.clock.now(), uri, width, answer.status))
        ended = asyncio.get_running_loop().create_future()
        at = self.clock.now() + timedelta(seconds=answer.seconds)
        heapq.heappush(self._pending, (at, next(self._numbers), ended))
        self.asked.set()
        await ended
        self.in_flight[uri] -= 1
        return AttemptResult(
            outcome=outcome_of_status(answer.status)
            if answer.status
            else Outcome.CONNECTION_FAILED,
            latency=timedelta(seconds=answer.seconds),
            status_code=answer.status,
            retry_after=answer.retry_after,
        )

    @property
    def under_way(self) -> int:
        """How many requests are not answered yet."""
        return len(self._pending)

    @property
    def next_answer(self) -> datetime | None:
        """When the next of them is answered."""
        return self._pending[0][0] if self._pending else None

    def answer(self) -> None:
        """Let all go whose time has come."""
        while self._pending and self._pending[0][0] <= self.clock.now():
            heapq.heappop(self._pending)[2].set_result(None)


async def fill(engine: Engine, count: int, *, first: int = 0) -> None:
    """Publish so many events, the IDs of which are `e` and a number."""
    for start in range(first, first + count, 1000):
        stop = min(start + 1000, first + count)
        await engine.publish(*(f"e{number}" for number in range(start, stop)))


async def live(engine: Engine, world: Endpoints, *, until: datetime) -> None:
    """Let time pass to `until`, or until nothing waits and nothing is under way."""
    while True:
        started = await engine.worker.run_once()
        await _settled(engine, world)
        if started or engine.lanes._changed.is_set():
            engine.lanes._changed.clear()
            continue
        times = [world.next_answer, engine.lanes.next_look]
        moment = min((time for time in times if time is not None), default=None)
        if moment is None or moment > until:
            return
        engine.clock.time = max(engine.clock.time, moment)
        world.answer()
        await _settled(engine, world)


async def _settled(engine: Engine, world: Endpoints) -> None:
    """Return when every attempt is on record or waits for its endpoint."""
    under_way = engine.worker._under_way
    while len(under_way) > world.under_way:
        world.asked.clear()
        asked = asyncio.create_task(world.asked.wait())
        await asyncio.wait([asked, *under_way], return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
