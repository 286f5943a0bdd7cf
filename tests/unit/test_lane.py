"""How many deliveries of a lane may go, and when to look again."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import (
    AwaitHost,
    Go,
    HostFacts,
    Lane,
    LaneDecision,
    LaneFacts,
    LookAgain,
    Rest,
    SpareHost,
    burst,
    decide,
    host_of,
    open_slots,
    spacing,
)
from signalpost.domain.pace import Ceiling, Circuit, Pace, Ramp

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER, LATEST = NOW + timedelta(seconds=1), NOW + timedelta(seconds=2)
OPEN = Pace(circuit=Circuit(NOW, 1))


def facts(*, rate: float | None = None, host: HostFacts | None = None, **known: Any) -> LaneFacts:
    lane = Lane(LaneId(1), TenantId("a"), 8, rate)
    return LaneFacts(lane=lane, host=host or HostFacts(), **({"due": NOW} | known))


def ceiling(limit: int) -> Ceiling:
    return Ceiling(limit=limit, time=NOW)


def worn(failures: int, *, in_flight: int = 0) -> HostFacts:
    """Return a host that may be sent 10 at once, after so many failures."""
    gap = timedelta(seconds=0.5)
    return HostFacts(10, in_flight, gap, NOW + failures * gap)


@pytest.mark.parametrize("in_flight", range(12))
@pytest.mark.parametrize("failures", range(11))
def test_a_host_has_room_again_when_it_says_so_and_no_sooner(failures: int, in_flight: int) -> None:
    host = worn(failures, in_flight=in_flight)
    if host.next_room is None:
        assert in_flight >= 10
        return
    assert host.room(now=host.next_room) >= 1
    assert host.room(now=host.next_room - timedelta(microseconds=1)) <= max(0, 9 - in_flight)
    assert (host.next_room <= NOW) is (in_flight + failures < 10)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # What waits, and when it is due.
        (facts(due=None), Rest()),
        (facts(due=NOW), Go(8)),
        (facts(due=NOW - timedelta(days=1)), Go(8)),
        (facts(due=LATER), LookAgain(LATER)),
        (facts(held=True), Rest()),
        # How many may be under way.
        (facts(in_flight=7), Go(1)),
        (facts(in_flight=8), Rest()),
        (facts(in_flight=9), Rest()),
        (facts(in_flight=8, due=LATER), Rest()),
        # The circuit: one probe, at its time.
        (facts(pace=OPEN), Go(1)),
        (facts(pace=OPEN, in_flight=1), Rest()),
        (facts(pace=OPEN, due=LATER), LookAgain(LATER)),
        (facts(pace=Pace(circuit=Circuit(LATER, 1))), LookAgain(LATER)),
        (facts(pace=Pace(circuit=Circuit(LATER, 1)), due=LATEST), LookAgain(LATEST)),
        # The ramp and the ceiling: the lower one counts.
        (facts(pace=Pace(ramp=Ramp(4, 4))), Go(4)),
        (facts(pace=Pace(ramp=Ramp(4, 4)), in_flight=3), Go(1)),
        (facts(pace=Pace(ramp=Ramp(4, 4)), in_flight=4), Rest()),
        (facts(pace=Pace(ramp=Ramp(64, 4))), Go(8)),
        (facts(pace=Pace(ceiling=ceiling(3))), Go(3)),
        (facts(pace=Pace(ceiling=ceiling(3), ramp=Ramp(4, 4))), Go(3)),
        (facts(pace=Pace(ceiling=ceiling(5), ramp=Ramp(4, 4)), in_flight=4), Rest()),
        # What the endpoint asked for.
        (facts(pace=Pace(not_before=NOW)), Go(8)),
        (facts(pace=Pace(not_before=LATER)), LookAgain(LATER)),
        (facts(pace=Pace(not_before=LATER), due=LATEST), LookAgain(LATEST)),
        (facts(pace=Pace(not_before=LATEST, circuit=Circuit(LATER, 1))), LookAgain(LATEST)),
        (facts(pace=Pace(not_before=LATER), in_flight=8), Rest()),
        # The rate.
        (facts(rate=5), Go(1)),
        (facts(rate=200), Go(4)),
        (facts(rate=200, in_flight=6), Go(2)),
        (facts(rate=5, next_token=NOW), Go(1)),
        (facts(rate=5, next_token=LATER), LookAgain(LATER)),
        (facts(rate=5, next_token=LATER, due=LATEST), LookAgain(LATEST)),
        # The host.
        (facts(host=HostFacts(limit=10, in_flight=9)), Go(1)),
        (facts(host=HostFacts(limit=10, in_flight=10)), AwaitHost()),
        (facts(host=HostFacts(limit=10, in_flight=10), due=LATER), LookAgain(LATER)),
        (facts(host=HostFacts(limit=10, in_flight=10), in_flight=8), Rest()),
        # What failed there: it holds up those that are not proven.
        (facts(host=worn(0)), Go(8)),
        (facts(host=worn(4)), Go(6)),
        (facts(host=worn(4, in_flight=5)), Go(1)),
        (facts(host=worn(4, in_flight=6)), SpareHost()),
        (facts(host=worn(10)), SpareHost()),
        (facts(host=worn(10), due=LATER), LookAgain(LATER)),
        (facts(host=worn(10), pace=OPEN), SpareHost()),
        (facts(host=worn(10), proven=True), Go(8)),
        (facts(host=worn(4, in_flight=6), proven=True), Go(4)),
        (facts(host=worn(4, in_flight=10)), AwaitHost()),
        (facts(host=worn(4, in_flight=10), proven=True), AwaitHost()),
    ],
)
def test_what_a_lane_may_do_now(known: LaneFacts, expected: LaneDecision) -> None:
    assert decide(known, now=NOW) == expected


@pytest.mark.parametrize(
    ("uri", "host"),
    [
        ("https://example.com/", "example.com"),
        ("https://example.com:8443/a:b/c", "example.com"),
        ("https://192.0.2.1/", "192.0.2.1"),
        ("https://[2001:db8::1]:8443/", "2001:db8::1"),
    ],
)
def test_the_host_of_an_endpoint(uri: str, host: str) -> None:
    assert host_of(uri) == host


@given(st.floats(0.001, 1000), st.lists(st.tuples(st.integers(0, 99), st.floats(0, 0.2))))
def test_no_second_sees_more_attempts_than_the_rate(
    rate: float, steps: list[tuple[int, float]]
) -> None:
    """Whenever a lane is looked at, and however many wait then."""
    known, now = facts(rate=rate), NOW
    starts: list[datetime] = []
    for waiting, pause in [(99, 0.0), *steps, *[(99, 0.0)] * 200]:
        now += timedelta(seconds=pause)
        match decide(known, now=now):
            case Go(count):
                taken = min(count, waiting)
                starts += [now] * taken
                known.next_token = now + taken * spacing(rate)
            case LookAgain(at):
                now = at
    window = timedelta(seconds=max(1.0, 1.0 / rate))
    for index, start in enumerate(starts):
        within = [moment for moment in starts[index:] if moment < start + window]
        assert len(within) <= math.ceil(rate)


@pytest.mark.parametrize("rate", [0.001, 0.5, 1, 3, 7, 50, 99, 100, 333, 1000])
def test_a_lane_that_always_has_work_reaches_its_rate(rate: float) -> None:
    assert burst(rate) / (burst(rate) * spacing(rate).total_seconds()) >= 0.98 * rate
    assert spacing(rate).total_seconds() >= 1 / rate - 1e-6 or burst(rate) > 1


@pytest.mark.parametrize(
    ("seconds", "slots"), [(-1, 32), (0, 32), (0.9, 32), (1, 64), (3, 256), (4, 500), (1e9, 500)]
)
def test_after_a_start_with_much_due_the_slots_double_every_second(
    seconds: float, slots: int
) -> None:
    assert open_slots(500, running=timedelta(seconds=seconds)) == slots
    assert open_slots(3, running=timedelta(seconds=seconds)) == 3
