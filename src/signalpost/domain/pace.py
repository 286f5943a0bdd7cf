"""How fast an endpoint can be sent to, learned from its answers.

* The circuit opens after `OPEN_AFTER` failures in a row. Then single attempts probe, at gaps
  that double from `FIRST_GAP` to `LONGEST_GAP`; a success closes it.
* After that a ramp lets 4 attempts go at once, then 8, and so on, each time so many succeeded.
* Answers that mean "too much" (429, 502, 503, 504) teach a ceiling: of the attempts that were
  under way, as many as got another answer. It rises by one at most once a minute, if so many
  were under way without another such answer. They speak against the endpoint itself, and
  count for the circuit, only if it was asked one thing at a time.
* `Retry-After` holds for the whole lane.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.retry_after import LONGEST as LONGEST_RETRY_AFTER
from signalpost.domain.retry_after import parse_retry_after

OPEN_AFTER: Final = 10
"""Failures in a row that open the circuit."""

FIRST_GAP: Final = timedelta(seconds=2)
LONGEST_GAP: Final = timedelta(minutes=5)
"""Bounds of the time between two probes, but for a spread of a fifth up and down."""

RAMP_START: Final = 4
"""Attempts at once after the circuit closed."""

RAISE_AFTER: Final = timedelta(minutes=1)
"""Shortest time between two rises of the ceiling."""

LASTING_AFTER: Final = timedelta(hours=1)
"""How long there has been no success when a restart should know of failures."""

TOO_MUCH: Final = frozenset({429, 502, 503, 504})
"""Answers of an endpoint that is asked more than it can take."""

_SPREAD_OF_LANES = 0.6180339887498949
_SPREAD_OF_PROBES = 0.7548776662466927


@dataclass(frozen=True, slots=True, kw_only=True)
class Failing:
    """The failures since the last success; of the last ones in a row, those that were FORBIDDEN."""

    count: int
    since: datetime
    last: datetime
    forbidden: int = 0
    forbidden_since: datetime | None = None

    @property
    def is_recent(self) -> bool:
        """Tell whether they all came within a short time."""
        return self.last - self.since < LASTING_AFTER


@dataclass(frozen=True, slots=True)
class Circuit:
    """An open circuit: when its next probe may go, and how many there were with that one."""

    probe_at: datetime
    probes: int


@dataclass(frozen=True, slots=True)
class Ramp:
    """Attempts at once, and how many are still to succeed before that doubles."""

    limit: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """Attempts at once that went well; `time` is when that was last learned or raised.

    Of the attempts under way when it was learned there were `peak`, and `refused` of those
    that ended since were too much.
    """

    limit: int
    time: datetime
    peak: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """What was learned of an endpoint. `HEALTHY`, that very object, if there is nothing to it.

    `strikes` are failures in a row that speak against the endpoint; `former` is the ceiling at
    the last success.
    """

    failing: Failing | None = None
    strikes: int = 0
    circuit: Circuit | None = None
    ramp: Ramp | None = None
    ceiling: Ceiling | None = None
    former: Ceiling | None = None
    not_before: datetime | None = None

    @property
    def is_telling(self) -> bool:
        """Tell whether it says something of the endpoint, and not only of what the lane did."""
        return bool(self.failing or self.circuit or self.ceiling or self.not_before)

    @property
    def lasting(self) -> Pace:
        """What a restart should know of it.

        Failures only once they are few, because the circuit is open or as they went on for
        long: of an endpoint that often fails and succeeds there is nothing to store. Or with
        what one of them asked for, to tell how long that is ago.
        """
        if self is HEALTHY:
            return self
        failing, rests = self.failing, self.circuit or self.not_before
        if failing is not None and not rests and failing.is_recent:
            failing = None
        ceiling = self.ceiling and Ceiling(limit=self.ceiling.limit, time=self.ceiling.time)
        return Pace(
            failing=failing,
            circuit=self.circuit,
            ceiling=ceiling,
            not_before=self.not_before,
        )

    def limit(self, cap: int) -> int:
        """Return how many attempts may be under way at once, of a lane that allows `cap`."""
        if self is HEALTHY:
            return cap
        if self.circuit is not None:
            return 1
        if self.ramp is not None:
            cap = min(cap, self.ramp.limit)
        return cap if self.ceiling is None else min(cap, self.ceiling.limit)

    def opens_at(self, due: datetime) -> datetime:
        """Return when what is due at `due` may go."""
        if self.not_before is not None and self.not_before > due:
            due = self.not_before
        if self.circuit is not None and self.circuit.probe_at > due:
            due = self.circuit.probe_at
        return due


HEALTHY: Final = Pace()
"""Nothing is known against the endpoint."""

RESUMING: Final = Pace(ramp=Ramp(RAMP_START, RAMP_START))
"""The pace of a lane in which much may have gathered, after a restart or a stop."""


def hastened(pace: Pace, *, now: datetime) -> Pace:
    """Return a pace whose next probe need not wait; what the endpoint asked for still holds."""
    circuit = pace.circuit
    if circuit is None or circuit.probe_at <= now:
        return pace
    return replace(pace, circuit=Circuit(now, circuit.probes))


def after_restart(pace: Pace, *, now: datetime) -> Pace:
    """Return a pace that was stored by a former run.

    If the clock was set back since, nothing in it lasts longer for that.
    """
    not_before = pace.not_before
    if pace.failing is None and not_before is not None:
        # Another attempt succeeded meanwhile, or a former version stored it: without the failure
        # nothing tells how long it is ago.
        return replace(pace, not_before=min(not_before, now + LONGEST_RETRY_AFTER))
    if pace.failing is None or pace.failing.last <= now:
        return pace
    back = pace.failing.last - now
    circuit, forbidden_since = pace.circuit, pace.failing.forbidden_since
    return replace(
        pace,
        failing=replace(
            pace.failing,
            since=pace.failing.since - back,
            last=now,
            forbidden_since=forbidden_since and forbidden_since - back,
        ),
        circuit=circuit and Circuit(circuit.probe_at - back, circuit.probes),
        ceiling=pace.ceiling and replace(pace.ceiling, time=min(pace.ceiling.time, now)),
        not_before=not_before and not_before - back,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """An attempt that ended at `now`; `width` of the lane were under way at most meanwhile.

    `lane` spreads the probes of lanes that fail together.
    """

    result: AttemptResult
    start: datetime
    now: datetime
    width: int
    cap: int
    lane: int = 0


def observe(pace: Pace, seen: Observation) -> Pace:
    """Return the pace after an attempt. One that the service cut short teaches nothing."""
    match seen.result.outcome:
        case Outcome.INTERRUPTED:
            return pace
        case Outcome.SUCCEEDED:
            return pace if pace is HEALTHY else _after_success(pace, seen)
        case _:
            return _after_failure(pace, seen)


def _after_success(pace: Pace, seen: Observation) -> Pace:
    ceiling = _raised(pace.ceiling, seen)
    not_before = pace.not_before
    if not_before is not None and not_before <= seen.now:
        not_before = None
    ramp = RESUMING.ramp if pace.circuit is not None else _climbed(pace.ramp)
    if ramp is not None and ramp.limit >= seen.cap:
        ramp = None
    if ceiling is None and ramp is None and not_before is None:
        return HEALTHY
    return Pace(ceiling=ceiling, ramp=ramp, not_before=not_before)


def _climbed(ramp: Ramp | None) -> Ramp | None:
    if ramp is None:
        return None
    if ramp.left > 1:
        return Ramp(ramp.limit, ramp.left - 1)
    return Ramp(2 * ramp.limit, 2 * ramp.limit)


def _raised(ceiling: Ceiling | None, seen: Observation) -> Ceiling | None:
    if ceiling is None or seen.width < ceiling.limit or seen.now < ceiling.time + RAISE_AFTER:
        return ceiling
    if ceiling.limit + 1 >= seen.cap:
        return None
    return Ceiling(limit=ceiling.limit + 1, time=seen.now)


def _after_failure(pace: Pace, seen: Observation) -> Pace:
    asked = parse_retry_after(seen.result.retry_after, now=seen.now)
    not_before = pace.not_before
    if asked and (not_before is None or seen.now + asked > not_before):
        not_before = seen.now + asked
    noted = replace(
        pace,
        failing=_failed_again(pace.failing, seen),
        former=pace.ceiling if pace.failing is None else pace.former,
        not_before=not_before,
    )
    if pace.circuit is not None:
        return replace(noted, circuit=_probed(pace.circuit, seen))
    if seen.result.status_code in TOO_MUCH and seen.width > 1:
        return replace(noted, ceiling=_lowered(pace.ceiling, seen))
    if pace.strikes + 1 < OPEN_AFTER:
        return replace(noted, strikes=pace.strikes + 1)
    # All of it fails: that was no lesson about how much is too much.
    circuit = Circuit(seen.now + _gap(1, seen.lane), 1)
    return replace(noted, strikes=0, circuit=circuit, ramp=None, ceiling=noted.former)


def _failed_again(failing: Failing | None, seen: Observation) -> Failing:
    count, since = (0, seen.now) if failing is None else (failing.count, failing.since)
    forbidden, forbidden_since = 0, None
    if seen.result.outcome is Outcome.FORBIDDEN:
        forbidden, forbidden_since = 1, seen.now
        if failing is not None and failing.forbidden_since is not None:
            forbidden, forbidden_since = failing.forbidden + 1, failing.forbidden_since
    return Failing(
        count=count + 1,
        since=since,
        last=seen.now,
        forbidden=forbidden,
        forbidden_since=forbidden_since,
    )


def _probed(circuit: Circuit, seen: Observation) -> Circuit:
    """Wait longer after a probe; what began before the circuit opened says nothing new."""
    if seen.start < circuit.probe_at:
        return circuit
    return Circuit(seen.now + _gap(circuit.probes + 1, seen.lane), circuit.probes + 1)


def _gap(probes: int, lane: int) -> timedelta:
    """Return the time before a probe; it differs by lane, so that no two stay in step."""
    gap = min(FIRST_GAP * (1 << min(probes - 1, 16)), LONGEST_GAP)
    return gap * (0.8 + 0.4 * ((lane * _SPREAD_OF_LANES + probes * _SPREAD_OF_PROBES) % 1.0))


def _lowered(ceiling: Ceiling | None, seen: Observation) -> Ceiling:
    """Learn that some of what was under way was too much."""
    if ceiling is not None and seen.start < ceiling.time and ceiling.refused:
        peak, refused = max(ceiling.peak, seen.width), ceiling.refused + 1
        time = ceiling.time
    else:
        peak, refused, time = seen.width, 1, seen.now
        if ceiling is not None:
            peak = min(peak, ceiling.limit)
    return Ceiling(limit=max(1, peak - refused), time=time, peak=peak, refused=refused)
