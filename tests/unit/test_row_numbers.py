from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given, strategies

from signalpost.store.row_numbers import RowNumbers, floor

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MOMENTS = strategies.datetimes(
    min_value=datetime(1970, 1, 1),  # noqa: DTZ001 - the strategy adds the zone
    timezones=strategies.just(UTC),
)


@given(
    last=strategies.integers(0, 1 << 62),
    draws=strategies.lists(strategies.tuples(strategies.integers(1, 5000), MOMENTS)),
)
def test_numbers_only_rise_whatever_the_clock_does(
    last: int, draws: list[tuple[int, datetime]]
) -> None:
    numbers = RowNumbers(last=last)
    for count, moment in draws:
        drawn = numbers.draw(count, at=moment)
        assert len(drawn) == count
        assert last < drawn[0]
        assert floor(moment) <= drawn[0]
        last = drawn[-1]
    assert last < 1 << 63


def test_numbers_do_not_tell_how_many_there_are() -> None:
    numbers = RowNumbers(last=0)
    first = numbers.draw(1, at=NOW)[0]
    second = numbers.draw(1, at=NOW + timedelta(milliseconds=1))[0]
    assert second - first > 1_000_000


def test_numbers_of_one_moment_follow_each_other() -> None:
    numbers = RowNumbers(last=0)
    first = numbers.draw(2, at=NOW)
    assert numbers.draw(1, at=NOW)[0] == first[-1] + 1
