"""What follows from an outcome: succeed, retry, or give up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from signalpost.domain.delivery import FailureReason
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.retry_after import parse_retry_after
from signalpost.domain.subscription import RetryPolicy

JITTER_MIN = 0.8
JITTER_MAX = 1.2
"""Bounds of the random factor of a delay."""


@dataclass(frozen=True, slots=True)
class Succeed:
    """The endpoint took the event."""


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Attempt again at this time; `charged` tells whether the attempt used up one of its set."""

    due: datetime
    charged: bool = True


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No attempt is left."""

    reason: FailureReason


Verdict = Succeed | RetryAt | GiveUp


def decide(
    result: AttemptResult,
    *,
    tries: int,
    set_start: datetime,
    policy: RetryPolicy,
    now: datetime,
    jitter: float,
) -> Verdict:
    """Decide what follows from an attempt.

    `tries` counts the attempts of the present set, this one included; `set_start` is when
    the first of them began; `jitter` is drawn from 0.8 to 1.2. A `Retry-After` can only
    lengthen the delay. An attempt that the service itself cut short is repeated at once and
    not charged.
    """
    if result.outcome is Outcome.SUCCEEDED:
        return Succeed()
    if result.outcome is Outcome.INTERRUPTED:
        return RetryAt(now, charged=False)
    if tries >= policy.max_attempts:
        return GiveUp(FailureReason.EXHAUSTED)
    asked_for = parse_retry_after(result.retry_after, now=now)
    due = now + max(backoff(policy, tries) * jitter, asked_for)
    if policy.max_retry_duration is not None and due > set_start + policy.max_retry_duration:
        return GiveUp(FailureReason.EXPIRED)
    return RetryAt(due)


def backoff(policy: RetryPolicy, tries: int) -> timedelta:
    """Return the delay after the attempt number `tries` of a set, without jitter.

    It never overflows: the power is cut at the ratio of the longest to the shortest delay.
    """
    ratio = policy.max_backoff / policy.min_backoff
    growth = 1.0
    for _ in range(tries - 1):
        growth *= policy.backoff_multiplier
        if growth >= ratio:
            return policy.max_backoff
        if policy.backoff_multiplier <= 1.0:
            break
    return min(policy.min_backoff * growth, policy.max_backoff)
