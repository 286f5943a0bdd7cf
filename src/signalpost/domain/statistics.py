"""What is counted of deliveries, and what can be read off it.

Latencies go into buckets whose bounds double, from 1 ms to 32.768 s, which is longer than any
attempt takes: a percentile read off them is less than a factor of two from the true one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import accumulate
from typing import Final

from signalpost.domain.outcome import Outcome

BUCKET: Final = timedelta(minutes=5)
"""Everything is counted by these stretches of time, which begin at full five minutes."""

KEPT: Final = timedelta(days=30)
"""How long counts are kept, and so how far anyone can look back."""

DEFAULT_PERIOD: Final = timedelta(hours=24)

LATENCY_BUCKETS: Final = 16

TIMED: Final = frozenset({Outcome.SUCCEEDED, Outcome.REJECTED, Outcome.TIMED_OUT})
"""Outcomes whose latency says something of the endpoint: it answered, or took too long to."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_INNER_BOUNDS: Final = [_MILLISECOND * 2**number for number in range(LATENCY_BUCKETS - 1)]


class Condition(StrEnum):
    """What keeps deliveries of a subscription that are due from being attempted.

    FLOWING: nothing but their turn. THROTTLED: a limit of the subscription, or its endpoint,
    which is failing or asked for a pause. PAUSED, SUSPENDED: its state.
    """

    FLOWING = "flowing"
    THROTTLED = "throttled"
    PAUSED = "paused"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How many deliveries and attempts ended. `latencies` are those of TIMED attempts, by bucket.

    A delivery that was reopened and ended again counts each time.
    """

    succeeded: int = 0
    failed: int = 0
    canceled: int = 0
    attempts: int = 0
    failed_attempts: int = 0
    latencies: tuple[int, ...] = (0,) * LATENCY_BUCKETS

    def __add__(self, other: Ended) -> Ended:
        """Count both."""
        pairs = zip(self.latencies, other.latencies, strict=True)
        return Ended(
            succeeded=self.succeeded + other.succeeded,
            failed=self.failed + other.failed,
            canceled=self.canceled + other.canceled,
            attempts=self.attempts + other.attempts,
            failed_attempts=self.failed_attempts + other.failed_attempts,
            latencies=tuple(one + another for one, another in pairs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What waits in subscriptions that are in one condition, attempts under way included.

    `subscriptions` is in how many of them. `oldest_due` is when the delivery that is due for
    longest became due, None if none is.
    """

    deliveries: int = 0
    subscriptions: int = 0
    oldest_due: datetime | None = None

    def __add__(self, other: Waiting) -> Waiting:
        """Count both."""
        due = [one for one in (self.oldest_due, other.oldest_due) if one is not None]
        return Waiting(
            deliveries=self.deliveries + other.deliveries,
            subscriptions=self.subscriptions + other.subscriptions,
            oldest_due=min(due, default=None),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What waits at a time, and how many subscriptions there are, by condition."""

    time: datetime
    waiting: Mapping[Condition, Waiting]
    subscriptions: Mapping[Condition, int]

    def oldest_due_age(self) -> Mapping[Condition, float]:
        """Return for how many seconds the first of what waits is due, 0 if none is."""
        dues = ((condition, one.oldest_due) for condition, one in self.waiting.items())
        return {
            condition: 0.0 if due is None else (self.time - due).total_seconds()
            for condition, due in dues
        }


def bucket_start(moment: datetime) -> datetime:
    """Return when the stretch that this time falls into began."""
    return moment - (moment - _EPOCH) % BUCKET


def latency_bucket(latency: timedelta) -> int:
    """Return the bucket of a latency: number n holds those of at most 2^n ms."""
    return bisect_left(_INNER_BOUNDS, latency)


def percentile(latencies: Sequence[int], percent: int) -> timedelta | None:
    """Return a latency that so many percent of those counted do not exceed; None without any.

    The nearest rank decides the bucket; within it they are taken to lie at even distances.
    """
    total = sum(latencies)
    if not total:
        return None
    rank = -(-total * percent // 100)
    for bucket, below_and_in in enumerate(accumulate(latencies)):
        if rank <= below_and_in:
            upper: timedelta = _MILLISECOND * 2**bucket
            lower = upper / 2 if bucket else timedelta(0)
            share = 1 - (below_and_in - rank) / latencies[bucket]
            return lower + (upper - lower) * share
    raise AssertionError("a rank is at most the total")
