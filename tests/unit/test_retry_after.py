from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from signalpost.domain.retry_after import LONGEST, parse_retry_after

NOW = datetime(1994, 11, 6, 8, 49, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "7",
        " 7 ",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun, 06 Nov 1994 08:49:37 -0000",
        # A date of HTTP is GMT, whatever zone it names.
        "Sun, 06 Nov 1994 08:49:37 +0200",
        "Sun, 06 Nov 1994 08:49:37 EST",
        "Sun, 06 Nov 1994 08:49:37",
    ],
)
def test_seconds_and_all_three_dates_are_read(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == timedelta(seconds=7)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-1", "-0", "+7", "1.5", "1e9", "0x10", "1_0", "inf", "NaN", "soon", "٣", "²"),
        *("7, 9", "7;9", "7 9", "\x00", "\ufeff7", "9" * 4000 + "x", "Sun, " * 4000),
        "Sun, 06 Nov 1994 08:49:00 GMT",
        "Sunday, 06-Nov-94 08:49:00 GMT",
        "Sun Nov  6 08:49:00 1994",
        "Thu, 01 Jan 1970 00:00:00 GMT",
        "Mon, 99 Foo 0000",
        "Sun, 06 Nov 1994 24:60:61 GMT",
        "Sun, 06 Nov 1995 08:49:61 GMT",
        "Sun, 06 Nov 1995 25:00:00 GMT",
        "Sun, 30 Feb 1995 00:00:00 GMT",
        "Sun, 06 Nov 10000 08:49:37 GMT",
        "Sun, 06 Nov 99999999999999999999 08:49:37 GMT",
    ],
)
def test_the_past_and_nonsense_ask_for_nothing(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == timedelta()


def test_a_leap_second_is_the_first_of_the_next_minute() -> None:
    text = "Sun, 06 Nov 1994 08:49:60 GMT"
    assert parse_retry_after(text, now=NOW) == timedelta(seconds=30)


@pytest.mark.parametrize("text", ["86401", "9" * 4000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_nobody_is_left_alone_for_more_than_a_day(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == LONGEST


_numbers = st.integers(-9, 10**7).map(str)
_dates = st.builds(
    "{}{} {} {} {}:{}:{} {}".format,
    st.sampled_from(["", "Sun, ", "Sunday, ", "Sun "]),
    _numbers,
    st.sampled_from(["Nov", "Feb", "13", "", "Foo"]),
    *[_numbers] * 4,
    st.sampled_from(["GMT", "", "-9999", "+99999999999", "UTC+1", "(((("]),
)


@given(st.text() | _numbers | _dates)
def test_no_value_does_harm(text: str) -> None:
    assert timedelta() <= parse_retry_after(text, now=NOW) <= LONGEST
