"""What the answers of an endpoint teach about how fast it can be sent to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.outcome import AttemptResult, Outcome
from signalpost.domain.pace import (
    FIRST_GAP,
    HEALTHY,
    LONGEST_GAP,
    OPEN_AFTER,
    RAISE_AFTER,
    RESUMING,
    TOO_MUCH,
    Ceiling,
    Observation,
    Pace,
    after_restart,
    observe,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CAP = 32
OK = {"outcome": Outcome.SUCCEEDED, "status_code": 200}
BROKEN = {"outcome": Outcome.REJECTED, "status_code": 500}
BUSY = {"outcome": Outcome.REJECTED, "status_code": 503}


def seen(
    answer: dict[str, Any],
    *,
    at: datetime = NOW,
    start: datetime | None = None,
    width: int = 1,
    lane: int = 0,
) -> Observation:
    result = AttemptResult(latency=timedelta(), **answer)
    return Observation(result=result, start=start or at, now=at, width=width, cap=CAP, lane=lane)


def after(pace: Pace, *observed: Observation) -> Pace:
    return reduce(observe, observed, pace)


def opened(*, lane: int = 0) -> Pace:
    return after(HEALTHY, *[seen(BROKEN, lane=lane)] * OPEN_AFTER)


def probe_at(pace: Pace) -> datetime:
    assert pace.circuit is not None
    return pace.circuit.probe_at


def test_success_of_a_healthy_endpoint_changes_nothing() -> None:
    assert after(HEALTHY, seen(OK)) is HEALTHY


FAILURES = [
    outcome for outcome in Outcome if outcome not in (Outcome.SUCCEEDED, Outcome.INTERRUPTED)
]


@pytest.mark.parametrize("outcome", FAILURES)
def test_every_kind_of_failure_opens_the_circuit_after_so_many_in_a_row(outcome: Outcome) -> None:
    failures = [seen({"outcome": outcome})] * OPEN_AFTER
    assert after(HEALTHY, *failures[1:]).circuit is None
    assert after(HEALTHY, *failures[1:], seen(OK), *failures[1:]).circuit is None
    assert after(HEALTHY, *failures).limit(CAP) == 1


def test_what_the_service_cut_short_teaches_nothing() -> None:
    pace = after(HEALTHY, *[seen(BROKEN)] * (OPEN_AFTER - 1))
    assert observe(pace, seen({"outcome": Outcome.INTERRUPTED})) is pace


def test_the_gap_between_probes_doubles_to_its_longest() -> None:
    pace, at, expected = opened(), NOW, FIRST_GAP
    for _ in range(30):
        gap = probe_at(pace) - at
        assert 0.8 * expected <= gap <= 1.2 * expected
        at, expected = probe_at(pace), min(2 * expected, LONGEST_GAP)
        pace = observe(pace, seen(BROKEN, at=at))


def test_lanes_that_fail_together_do_not_probe_together() -> None:
    gaps = sorted((probe_at(opened(lane=lane)) - NOW) / FIRST_GAP for lane in range(1000))
    assert all(abs(gap - (0.8 + 0.4 * n / 1000)) < 0.01 for n, gap in enumerate(gaps))


def test_what_began_before_the_circuit_opened_does_not_lengthen_the_gap() -> None:
    late = seen(BROKEN, start=NOW, at=NOW + timedelta(seconds=30))
    assert observe(opened(), late).circuit == opened().circuit


def test_a_success_closes_the_circuit_and_the_lane_climbs_from_four_to_its_cap() -> None:
    pace = observe(opened(), seen(OK))
    limits = []
    while pace is not HEALTHY:
        limits.append(pace.limit(CAP))
        pace = observe(pace, seen(OK))
    assert limits == [4] * 4 + [8] * 8 + [16] * 16


def test_after_a_stop_a_lane_climbs_as_well() -> None:
    assert [RESUMING.limit(cap) for cap in (1, 4, 32)] == [1, 4, 4]
    assert after(RESUMING, *[seen(OK)] * 4).limit(CAP) == 8


def wave(limit: int, *, width: int = CAP, at: datetime = NOW) -> list[Observation]:
    """The answers to `width` attempts at once of which `limit` are taken."""
    busy = [seen(BUSY, start=at, at=at + timedelta(seconds=1), width=width)] * (width - limit)
    return busy + [seen(OK, start=at, at=at + timedelta(seconds=1), width=width)] * limit


@pytest.mark.parametrize("status", sorted(TOO_MUCH))
@pytest.mark.parametrize("limit", [1, 2, 3, 20, 31])
def test_the_ceiling_is_how_many_went_well(limit: int, status: int) -> None:
    one_way = wave(limit)
    for answers in (one_way, one_way[::-1], [*one_way[::2], *one_way[1::2]]):
        as_status = [
            one
            if one.result.status_code == 200
            else seen(BUSY | {"status_code": status}, start=one.start, at=one.now, width=one.width)
            for one in answers
        ]
        assert after(HEALTHY, *as_status).limit(CAP) == limit


@pytest.mark.parametrize("status", [300, 400, 404, 408, 425, 500, 501, 505, 599])
def test_other_failures_lower_no_ceiling(status: int) -> None:
    failure = seen({"outcome": Outcome.REJECTED, "status_code": status}, width=CAP)
    assert observe(HEALTHY, failure).limit(CAP) == CAP


def test_the_ceiling_rises_by_one_a_minute_where_it_was_reached() -> None:
    pace = after(HEALTHY, *wave(20))
    learned = NOW + timedelta(seconds=1)
    assert observe(pace, seen(OK, at=learned + RAISE_AFTER, width=19)).limit(CAP) == 20
    early = learned + RAISE_AFTER - timedelta(microseconds=1)
    assert observe(pace, seen(OK, at=early, width=20)).limit(CAP) == 20
    at = learned
    for minute in range(1, 12):
        at += RAISE_AFTER
        pace = after(pace, *[seen(OK, at=at, width=20 + minute)] * 3)
        assert pace.limit(CAP) == 20 + minute
    assert observe(pace, seen(OK, at=at + RAISE_AFTER, width=31)) is HEALTHY


def test_one_too_many_takes_the_ceiling_back_by_one() -> None:
    pace = after(HEALTHY, *wave(20))
    at = NOW + timedelta(minutes=2)
    pace = observe(pace, seen(OK, at=at, width=20))
    assert pace.limit(CAP) == 21
    again = after(pace, *wave(20, width=21, at=at))
    assert again.limit(CAP) == 20


def test_an_endpoint_of_which_all_is_too_much_is_cut_off_and_teaches_no_ceiling() -> None:
    """As a load balancer answers while nothing stands behind it."""
    pace = after(HEALTHY, *wave(0))
    assert pace.limit(CAP) == 1
    assert pace.circuit is None
    single = [seen(BUSY, at=NOW + timedelta(seconds=2))] * OPEN_AFTER
    pace = after(pace, *single)
    assert pace.circuit is not None
    pace = after(pace, *[seen(OK, at=NOW + timedelta(seconds=9))] * 40)
    assert pace is HEALTHY


def test_a_ceiling_that_was_known_before_an_outage_is_known_after_it() -> None:
    pace = after(HEALTHY, *wave(20))
    later = NOW + timedelta(seconds=9)
    pace = after(pace, *[seen(BUSY, at=later, width=20)] * 20, *[seen(BUSY, at=later)] * OPEN_AFTER)
    assert pace.circuit is not None
    assert after(pace, *[seen(OK, at=later)] * 40).limit(CAP) == 20


@pytest.mark.parametrize("answer", [BUSY, BROKEN, BUSY | {"status_code": 429}])
def test_retry_after_holds_for_the_whole_lane(answer: dict[str, Any]) -> None:
    pace = observe(HEALTHY, seen(answer | {"retry_after": "7"}))
    assert pace.opens_at(NOW) == NOW + timedelta(seconds=7)
    shorter = observe(pace, seen(answer | {"retry_after": "3"}))
    assert shorter.opens_at(NOW) == NOW + timedelta(seconds=7)
    longer = observe(pace, seen(answer | {"retry_after": "99999999"}))
    assert longer.opens_at(NOW) == NOW + timedelta(hours=24)


def test_a_success_does_not_end_what_retry_after_asked_for() -> None:
    pace = observe(HEALTHY, seen(BUSY | {"retry_after": "7"}))
    pace = observe(pace, seen(OK, start=NOW, at=NOW + timedelta(seconds=1)))
    assert pace.opens_at(NOW) == NOW + timedelta(seconds=7)
    assert observe(pace, seen(OK, at=NOW + timedelta(seconds=7))).not_before is None


@given(st.text(max_size=40) | st.integers().map(str))
def test_no_retry_after_keeps_a_lane_longer_than_a_day(text: str) -> None:
    pace = observe(HEALTHY, seen(BUSY | {"retry_after": text}))
    assert NOW <= pace.opens_at(NOW) <= NOW + timedelta(hours=24)


@given(st.lists(st.tuples(st.sampled_from([OK, BROKEN, BUSY]), st.integers(1, CAP)), max_size=60))
def test_whatever_is_answered_a_lane_may_go_some_time(
    answers: list[tuple[dict[str, Any], int]],
) -> None:
    pace = HEALTHY
    for number, (answer, width) in enumerate(answers):
        pace = observe(pace, seen(answer, at=NOW + timedelta(seconds=number), width=width))
        assert 1 <= pace.limit(CAP) <= CAP
        assert pace.opens_at(NOW) <= NOW + timedelta(seconds=number) + 1.2 * LONGEST_GAP


def test_what_lasts_is_what_has_consequences_after_a_restart() -> None:
    failing = after(HEALTHY, *[seen(BROKEN)] * (OPEN_AFTER - 1))
    assert failing.lasting == HEALTHY
    pace = observe(failing, seen(BROKEN))
    assert (pace.lasting.circuit, pace.lasting.failing) == (pace.circuit, pace.failing)
    assert after(HEALTHY, *wave(20)).lasting == Pace(
        ceiling=Ceiling(limit=20, time=NOW + timedelta(seconds=1))
    )
    assert RESUMING.lasting == HEALTHY
    hour = NOW + timedelta(hours=1)
    assert after(HEALTHY, seen(BROKEN), seen(BROKEN, at=hour)).lasting.failing is not None


ASKED_TO_WAIT = {**BUSY, "retry_after": "600"}


@pytest.mark.parametrize(
    "pace", [opened(), after(HEALTHY, seen(ASKED_TO_WAIT)), after(opened(), seen(ASKED_TO_WAIT))]
)
@pytest.mark.parametrize("back", [timedelta(seconds=1), timedelta(hours=2), timedelta(days=3653)])
def test_a_clock_that_was_set_back_lengthens_no_wait(pace: Pace, back: timedelta) -> None:
    restored = after_restart(pace.lasting, now=NOW - back)
    assert restored.opens_at(NOW - back) - (NOW - back) == pace.opens_at(NOW) - NOW
    assert restored.failing is not None
    assert restored.failing.last == NOW - back


@pytest.mark.parametrize("later", [timedelta(), timedelta(hours=2), timedelta(days=3653)])
def test_after_a_restart_with_a_sound_clock_a_pace_is_as_it_was(later: timedelta) -> None:
    pace = after(opened(), seen(ASKED_TO_WAIT)).lasting
    assert after_restart(pace, now=NOW + later) == pace
