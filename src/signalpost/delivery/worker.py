"""Claims deliveries and sees each through to its record, a bounded number at a time."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from signalpost.delivery.attempt import Attempter
from signalpost.delivery.lane_state import Lesson
from signalpost.delivery.lanes import LaneHome
from signalpost.delivery.patience import patiently
from signalpost.delivery.suspender import Suspender
from signalpost.domain.delivery import Lease
from signalpost.domain.ids import delivery_id
from signalpost.domain.outcome import RESPONSE_READ_LIMIT
from signalpost.domain.subscription import MAX_TIMEOUT
from signalpost.domain.verdict import GiveUp, RetryAt, Succeed
from signalpost.ports import AttemptRecord, Clock, DeliveryQueue, Pick, Recorded

SLOTS: Final = 512
"""Most attempts under way at once."""

LEASE: Final = MAX_TIMEOUT + RESPONSE_READ_LIMIT + timedelta(seconds=14)
"""How long a delivery is leased: longer by more than 10 s than any attempt can take."""

_MOST_CLAIMED = 200
_LONGEST_WAIT = timedelta(seconds=5)

_logger = logging.getLogger(__name__)


class Worker:
    """Runs attempts. One of it runs in a process, in the loop of its lanes."""

    def __init__(
        self,
        *,
        queue: DeliveryQueue,
        lanes: LaneHome,
        attempter: Attempter,
        suspender: Suspender,
        clock: Clock,
        slots: int = SLOTS,
    ) -> None:
        self._queue = queue
        self._lanes = lanes
        self._attempter = attempter
        self._suspender = suspender
        self._clock = clock
        self._slots = slots
        self._under_way: set[asyncio.Task[None]] = set()
        self._draining = False
        self._grace = timedelta()

    @property
    def is_alive(self) -> bool:
        """Tell whether new attempts are started."""
        return not self._draining

    async def run(self) -> None:
        """Work until `drain` is called, and then until nothing is under way."""
        while not self._draining:
            if not await self.run_once():
                await self._lanes.wait(now=self._clock.now(), longest=_LONGEST_WAIT)
        await self._end(self._grace)

    async def run_once(self) -> int:
        """Claim what may go now and start its attempts; return how many."""
        now = self._clock.now()
        slots = self._lanes.slots(self._slots, now=now)
        free = slots - len(self._under_way)
        limit = min(free, _MOST_CLAIMED)
        picks = self._lanes.picks(limit=limit, now=now, free=free, slots=slots)
        if not picks:
            return 0
        leases, until = await patiently(lambda: self._claim(picks))
        counts = Counter(lease.lane_id for lease in leases)
        dry = self._lanes.claimed(picks, counts, now=self._clock.now())
        for lease in leases:
            width = self._lanes.width(lease.lane_id)
            task = asyncio.create_task(self._deliver(lease, width=width, until=until))
            self._under_way.add(task)
            task.add_done_callback(self._finish)
        if dry:
            due = await patiently(lambda: self._queue.next_due(dry))
            self._lanes.ran_dry(dry, due)
        return len(leases)

    def drain(self, *, grace: timedelta) -> None:
        """Start nothing more; let what is under way end, and cut short what takes longer.

        What is cut short, or was being claimed, is on record as interrupted and due again at once.
        """
        self._draining, self._grace = True, grace
        self._attempter.stop()
        self._lanes.wake()

    async def idle(self) -> None:
        """Return when no attempt is under way."""
        while self._under_way:
            await asyncio.wait(self._under_way)

    async def _end(self, grace: timedelta) -> None:
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=grace.total_seconds())
        self._attempter.interrupt()
        await self.idle()

    async def _claim(self, picks: Sequence[Pick]) -> tuple[Sequence[Lease], datetime]:
        now = self._clock.now()
        until = now + LEASE
        return await self._queue.claim(picks, now=now, lease_until=until), until

    async def _deliver(self, lease: Lease, *, width: int, until: datetime) -> None:
        lane_id, next_due, in_slot = lease.lane_id, None, True
        try:
            record = await self._attempter.attempt(lease, until=until)
            lesson = self._lanes.learn(
                lane_id,
                record.attempt.result,
                start=record.attempt.start_time,
                width=width,
                now=self._clock.now(),
            )
            if lesson.is_empty and isinstance(record.verdict, Succeed):
                # The claim that this allows is made after the record, and often along with it:
                # then one transaction a delivery does, instead of two.
                self._lanes.ended(lane_id)
                in_slot = False
            recorded = await self._record(record, lesson)
            _log(record, held=recorded is not None)
            if recorded is not None:
                next_due = recorded.next_due
        finally:
            if in_slot:
                self._lanes.ended(lane_id)
            self._lanes.recorded(lane_id, next_due=next_due)

    async def _record(self, record: AttemptRecord, lesson: Lesson) -> Recorded | None:
        if lesson.pace is not None:
            record = replace(record, pace=lesson.pace)
        if lesson.suspension is not None:
            return await self._suspender.record(record, lesson.suspension)
        return await patiently(lambda: self._queue.record(record, now=self._clock.now()))

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._under_way.discard(task)
        self._lanes.wake()
        if not task.cancelled() and (error := task.exception()):
            _logger.critical("an attempt could not be recorded", exc_info=error)


def _log(record: AttemptRecord, *, held: bool) -> None:
    lease, result = record.lease, record.attempt.result
    level = logging.DEBUG if held and isinstance(record.verdict, Succeed) else logging.INFO
    if not _logger.isEnabledFor(level):
        return
    _logger.log(
        level,
        "attempt",
        extra={
            "delivery_id": delivery_id(lease.key),
            "subscription_id": record.subscription_id or "",
            "event_id": lease.event_id,
            "event_type": lease.event_type,
            "tenant_id": lease.tenant_id,
            "attempt": record.attempt.number,
            "outcome": result.outcome.name,
            "status_code": result.status_code,
            "error_code": result.error_code,
            "latency_ms": round(result.latency.total_seconds() * 1000, 1),
            "verdict": _verdict(record) if held else "lease lost",
            "traceparent": lease.traceparent,
        },
    )


def _verdict(record: AttemptRecord) -> str:
    match record.verdict:
        case Succeed():
            return "succeeded"
        case RetryAt(due):
            return f"retry at {due.isoformat()}"
        case GiveUp(reason):
            return f"gave up: {reason.name}"
