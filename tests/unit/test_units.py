"""Times as they are stored: whole microseconds of UTC, whatever zone they were told in."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.store.units import from_duration, from_time, to_duration, to_time

NEW_YORK = ZoneInfo("America/New_York")


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 30), timezones=st.timezones()))  # noqa: DTZ001
def test_a_time_of_any_zone_is_read_as_the_same_moment(moment: datetime) -> None:
    read = to_time(from_time(moment))
    assert read == moment.astimezone(UTC)
    assert read.tzinfo is UTC


@given(st.timedeltas())
def test_a_duration_is_read_as_it_was_written(duration: timedelta) -> None:
    assert to_duration(from_duration(duration)) == duration


@pytest.mark.parametrize(
    ("moment", "micros"),
    [
        (datetime(1970, 1, 1, tzinfo=UTC), 0),
        (datetime(2038, 1, 19, 3, 14, 7, tzinfo=UTC), (2**31 - 1) * 10**6),
        (datetime(2038, 1, 19, 3, 14, 8, 1, tzinfo=UTC), 2**31 * 10**6 + 1),
        (datetime(2106, 2, 7, 6, 28, 16, tzinfo=UTC), 2**32 * 10**6),
        # An hour that comes twice, and one that never comes.
        (datetime(2026, 11, 1, 1, 30, tzinfo=NEW_YORK), 1_793_511_000 * 10**6),
        (datetime(2026, 11, 1, 1, 30, fold=1, tzinfo=NEW_YORK), 1_793_514_600 * 10**6),
        (datetime(2026, 3, 8, 2, 30, tzinfo=NEW_YORK), 1_772_955_000 * 10**6),
    ],
)
def test_moments_that_are_easily_taken_for_others(moment: datetime, micros: int) -> None:
    assert from_time(moment) == micros
    assert to_time(micros) == moment.astimezone(UTC)
