"""What the service counts of itself: whether customers get their events.

Names are of the kind the semantic conventions ask for; a Prometheus server sees
`signalpost.deliveries.pending` as `signalpost_deliveries_pending`. No attribute tells tenants,
subscriptions or endpoints apart: those are for `GetDeliveryStats`.

Nothing is called for each event. What is committed is added to `Totals`, a batch at a time, and
what waits is looked up when someone collects.
"""

from __future__ import annotations

import asyncio
import math
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from threading import Lock
from typing import Any, Final

from opentelemetry.metrics import CallbackOptions, Meter, Observation

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.errors import SignalpostError
from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.statistics import Condition, Overview

DURATION_NAME: Final = "signalpost.delivery.duration"
DURATION_UNIT: Final = "s"
DURATION_DESCRIPTION: Final = "Time from the acceptance of an event to its delivery"

_MINUTE: Final = 60.0
_HOUR: Final = 60 * _MINUTE
_BOUNDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(_MINUTE, 5 * _MINUTE, 30 * _MINUTE, 2 * _HOUR, 12 * _HOUR, 72 * _HOUR),
)
_COLLECTING_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 0.1

_Callback = Callable[[CallbackOptions], Iterable[Observation]]


class Connected(IntEnum):
    """On which connection a request was made."""

    NONE = 0
    NEW = 1
    KEPT = 2


def connected(result: AttemptResult) -> Connected:
    """Tell which connection an attempt used, if it came to that."""
    timings = result.timings
    if timings.connect is not None:
        return Connected.NEW
    return Connected.NONE if timings.write is None else Connected.KEPT


@dataclass(slots=True)
class Durations:
    """A histogram of seconds. `counts` has one more than there are bounds."""

    bounds: tuple[float, ...] = _BOUNDS
    counts: list[int] = field(default_factory=lambda: [0] * (len(_BOUNDS) + 1))
    total: float = 0.0
    least: float = math.inf
    most: float = 0.0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self.least = min(self.least, seconds)
        self.most = max(self.most, seconds)
        self.total += seconds
        self.counts[bisect_left(self.bounds, seconds)] += 1


@dataclass(slots=True)
class Totals:
    """What was committed since the process began. Written by one thread, read by others."""

    accepted: int = 0
    leases_lost: int = 0
    attempts: Counter[tuple[Outcome, Connected]] = field(default_factory=Counter)
    ended: Counter[DeliveryState] = field(default_factory=Counter)
    durations: Durations = field(default_factory=Durations)


class Lookout:
    """Has an overview taken in the event loop, for threads that collect.

    One is good for a moment, so that all that is collected together comes from the same.
    """

    def __init__(self, take: Callable[[], Coroutine[Any, Any, Overview]]) -> None:
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._lock = Lock()
        self._overview: Overview | None = None
        self._until = 0.0

    def overview(self) -> Overview | None:
        """Return it; None if the loop or the store does not answer."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._overview = self._ask()
                self._until = time.monotonic() + _FRESH_SECONDS
            return self._overview

    def _ask(self) -> Overview | None:
        future = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
        try:
            return future.result(_COLLECTING_SECONDS)
        except (SignalpostError, TimeoutError):
            future.cancel()
            return None


def observe(meter: Meter, totals: Totals, lookout: Lookout) -> None:
    """Let a meter read all that is counted, but for durations."""
    _observe_totals(meter, totals)
    _observe_overview(meter, lookout)


def _observe_totals(meter: Meter, totals: Totals) -> None:
    meter.create_observable_counter(
        "signalpost.events.accepted",
        [lambda _: [Observation(totals.accepted)]],
        unit="{event}",
        description="Events that were stored, each counted once",
    )
    meter.create_observable_counter(
        "signalpost.attempts",
        [lambda _: [_attempts(*one) for one in dict(totals.attempts).items()]],
        unit="{attempt}",
        description="Attempts that ended, by their outcome and the connection they used",
    )
    meter.create_observable_counter(
        "signalpost.leases.lost",
        [lambda _: [Observation(totals.leases_lost)]],
        unit="{attempt}",
        description="Attempts whose outcome came too late to count: they had been taken back",
    )
    meter.create_observable_counter(
        "signalpost.deliveries.ended",
        [lambda _: _by("state", {state.name: totals.ended[state] for state in _ENDS})],
        unit="{delivery}",
        description="Deliveries that ended, by the state they ended in",
    )


_ENDS: Final = (DeliveryState.SUCCEEDED, DeliveryState.FAILED, DeliveryState.CANCELED)


def _attempts(key: tuple[Outcome, Connected], count: int) -> Observation:
    outcome, connection = key
    attributes = {
        "signalpost.outcome": outcome.name,
        "signalpost.connection": connection.name.lower(),
    }
    return Observation(count, attributes)


def _observe_overview(meter: Meter, lookout: Lookout) -> None:
    def reading(read: Callable[[Overview], Mapping[Condition, float]]) -> list[_Callback]:
        def callback(_: CallbackOptions) -> Iterable[Observation]:
            overview = lookout.overview()
            return (
                []
                if overview is None
                else _by("condition", {str(key): value for key, value in read(overview).items()})
            )

        return [callback]

    meter.create_observable_up_down_counter(
        "signalpost.deliveries.pending",
        reading(lambda seen: {name: one.deliveries for name, one in seen.waiting.items()}),
        unit="{delivery}",
        description="Deliveries that wait or are under way, by what holds back those that are due",
    )
    meter.create_observable_gauge(
        "signalpost.deliveries.oldest_due_age",
        reading(Overview.oldest_due_age),
        unit="s",
        description="Time since the delivery that is due for longest became due; 0 if none is",
    )
    meter.create_observable_up_down_counter(
        "signalpost.subscriptions",
        reading(lambda seen: dict(seen.subscriptions)),
        unit="{subscription}",
        description="Subscriptions, by what holds back deliveries that are due",
    )


def _by(name: str, values: Mapping[str, float]) -> list[Observation]:
    return [Observation(value, {f"signalpost.{name}": str(key)}) for key, value in values.items()]
