from datetime import UTC, datetime, timedelta
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.statistics import (
    LATENCY_BUCKETS,
    bucket_start,
    latency_bucket,
    percentile,
)
from signalpost.domain.subscription import MAX_TIMEOUT

MILLISECOND = timedelta(milliseconds=1)
LATENCIES = st.integers(0, 31_000_000).map(lambda number: timedelta(microseconds=number))


def counted(latencies: list[timedelta]) -> list[int]:
    counts = [0] * LATENCY_BUCKETS
    for latency in latencies:
        counts[latency_bucket(latency)] += 1
    return counts


@pytest.mark.parametrize("number", range(LATENCY_BUCKETS))
def test_a_bucket_holds_what_is_at_most_its_bound(number: int) -> None:
    bound = MILLISECOND * 2**number
    just_above = latency_bucket(bound + timedelta(microseconds=1))
    assert latency_bucket(bound) == number
    assert just_above == min(number + 1, LATENCY_BUCKETS - 1)


def test_the_last_bucket_takes_the_longest_attempt_and_whatever_a_clock_makes_of_it() -> None:
    assert MILLISECOND * 2 ** (LATENCY_BUCKETS - 1) > MAX_TIMEOUT
    assert latency_bucket(timedelta(days=1)) == LATENCY_BUCKETS - 1
    assert latency_bucket(timedelta(0)) == latency_bucket(timedelta(seconds=-1)) == 0


@given(st.lists(LATENCIES, min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_a_percentile_lies_in_the_bucket_of_the_true_one(
    latencies: list[timedelta], percent: int
) -> None:
    true = sorted(latencies)[ceil(len(latencies) * percent / 100) - 1]
    estimate = percentile(counted(latencies), percent)
    assert estimate is not None
    assert latency_bucket(estimate) == latency_bucket(true)
    if true > MILLISECOND:
        assert true / 2 < estimate < true * 2


@given(st.lists(LATENCIES, min_size=1, max_size=200))
def test_percentiles_rise(latencies: list[timedelta]) -> None:
    found = [percentile(counted(latencies), percent) for percent in (50, 95, 99)]
    assert found == sorted(one for one in found if one is not None)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([0] * LATENCY_BUCKETS, 50) is None


def test_alike_latencies_lie_at_even_distances() -> None:
    assert percentile(counted([timedelta(milliseconds=100)] * 4), 50) == 96 * MILLISECOND
    assert percentile(counted([timedelta(milliseconds=100)] * 4), 99) == 128 * MILLISECOND


@given(st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_stretches_begin_at_full_five_minutes(moment: datetime) -> None:
    start = bucket_start(moment)
    assert (start.minute % 5, start.second, start.microsecond) == (0, 0, 0)
    assert timedelta(0) <= moment - start < timedelta(minutes=5)
