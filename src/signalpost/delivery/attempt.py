"""One attempt of a delivery, from its lease to its record."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import cast

from opentelemetry.trace import Span

from signalpost import failpoints
from signalpost.delivery.request import build_request
from signalpost.delivery.targets import Targets
from signalpost.domain.delivery import Attempt, FailureReason, Lease
from signalpost.domain.errors import NotFound
from signalpost.domain.ids import delivery_id
from signalpost.domain.outcome import RESPONSE_READ_LIMIT, AttemptResult, Outcome
from signalpost.domain.subscription import RetryPolicy, Subscription
from signalpost.domain.verdict import GiveUp, Verdict, decide
from signalpost.ports import (
    AttemptRecord,
    Clock,
    SecretUnreadable,
    Sender,
    SubscriptionUnreadable,
)
from signalpost.telemetry import tracing
from signalpost.telemetry.tracing import UNTRACED, Tracing

_STOPPED = "the service stopped during the attempt"
_TOO_LATE = "the service stood still, or storage did, and so nothing was sent"

_logger = logging.getLogger(__name__)


class Attempter:
    """Makes attempts. `jitter` draws a factor from 0.8 to 1.2."""

    def __init__(
        self,
        *,
        targets: Targets,
        sender: Sender,
        clock: Clock,
        jitter: Callable[[], float],
        user_agent: str,
        tracing: Tracing = UNTRACED,
    ) -> None:
        self._targets = targets
        self._sender = sender
        self._clock = clock
        self._jitter = jitter
        self._user_agent = user_agent
        self._tracing = tracing
        self._stopped = False
        self._under_way: set[asyncio.Task[object]] = set()
        self._interrupted: set[asyncio.Task[object]] = set()

    async def attempt(self, lease: Lease, *, until: datetime) -> AttemptRecord:
        """Make one attempt and decide what follows. Never raises for what the network does.

        Nothing is sent if it could go on after `until`, when the lease ends.
        """
        start = self._clock.now()
        with self._tracing.attempt(lease, start=start) as span:
            record = await self._decided(lease, start, until, span)
            tracing.attempted(span, record.attempt.result, record.verdict)
            return record

    async def _decided(
        self, lease: Lease, start: datetime, until: datetime, span: Span
    ) -> AttemptRecord:
        try:
            result, subscription = await self._make(lease, start, until, span)
        except NotFound:
            return _given_up(lease, start, "SUBSCRIPTION_DELETED", "the subscription was deleted")
        except SecretUnreadable as error:
            return _given_up(lease, start, "SECRET_UNREADABLE", str(error))
        except SubscriptionUnreadable as error:
            return _given_up(lease, start, "SUBSCRIPTION_UNREADABLE", str(error))
        except Exception:  # a bug met by one delivery must not stop the others
            _logger.exception("delivery %s failed inside the service", delivery_id(lease.key))
            return _given_up(lease, start, "INTERNAL", "the service failed; see its log")
        policy = RetryPolicy() if subscription is None else subscription.retry_policy
        verdict = decide(
            result,
            tries=lease.tries + 1,
            set_start=lease.set_start or start,
            policy=policy,
            now=self._clock.now(),
            jitter=self._jitter(),
        )
        return _record(lease, start, result, verdict, subscription)

    def stop(self) -> None:
        """Let nothing more be sent: attempts that begin from now on are INTERRUPTED at once."""
        self._stopped = True

    def interrupt(self) -> None:
        """End all attempts under way now, as INTERRUPTED."""
        for task in self._under_way - self._interrupted:
            self._interrupted.add(task)
            task.cancel()

    async def _make(
        self, lease: Lease, start: datetime, until: datetime, span: Span
    ) -> tuple[AttemptResult, Subscription | None]:
        subscription = None
        task = _current_task()
        self._under_way.add(task)
        try:
            failpoints.hit("worker.on_event", subject=lease.event_id)
            subscription, now = self._targets.kept(lease), start
            if subscription is None:
                subscription = await self._targets.of(lease)
                now = self._clock.now()
            tracing.aimed(span, subscription)
            if self._stopped:
                return _not_made("SERVICE_STOPPED", _STOPPED), subscription
            if now + subscription.timeout + RESPONSE_READ_LIMIT > until:
                return _not_made("STARTED_TOO_LATE", _TOO_LATE), subscription
            request = build_request(
                subscription,
                event_id=lease.event_id,
                body=lease.body,
                traceparent=tracing.carried(span, lease.traceparent),
                now=start,
                wall=self._clock.wall(),
                user_agent=self._user_agent,
            )
            return await self._sender.send(request), subscription
        except asyncio.CancelledError:
            if task not in self._interrupted or task.uncancel():
                raise
            return _not_made("SERVICE_STOPPED", _STOPPED), subscription
        finally:
            self._under_way.discard(task)
            self._interrupted.discard(task)


def _current_task() -> asyncio.Task[object]:
    # There is one wherever something can be awaited.
    return cast("asyncio.Task[object]", asyncio.current_task())


def _given_up(lease: Lease, start: datetime, error_code: str, message: str) -> AttemptRecord:
    result = _not_made(error_code, message)
    return _record(lease, start, result, GiveUp(FailureReason.INTERNAL))


def _not_made(error_code: str, error_message: str) -> AttemptResult:
    return AttemptResult(
        outcome=Outcome.INTERRUPTED,
        latency=timedelta(),
        error_code=error_code,
        error_message=error_message,
    )


def _record(
    lease: Lease,
    start: datetime,
    result: AttemptResult,
    verdict: Verdict,
    subscription: Subscription | None = None,
) -> AttemptRecord:
    attempt = Attempt(number=lease.number, trigger=lease.trigger, start_time=start, result=result)
    return AttemptRecord(
        lease=lease,
        attempt=attempt,
        verdict=verdict,
        subscription_id=None if subscription is None else subscription.subscription_id,
    )
