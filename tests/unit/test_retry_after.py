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
    ],
)
def test_seconds_and_all_three_dates_are_read(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == timedelta(seconds=7)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "1.5", "0x10", "soon", "٣", "Sun, 06 Nov 1994 08:49:00 GMT", "Mon, 99 Foo 0000"],
)
def test_the_past_and_nonsense_ask_for_nothing(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == timedelta()


@pytest.mark.parametrize("text", ["86401", "9" * 4000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_nobody_is_left_alone_for_more_than_a_day(text: str) -> None:
    assert parse_retry_after(text, now=NOW) == LONGEST


@given(st.text())
def test_no_value_does_harm(text: str) -> None:
    assert timedelta() <= parse_retry_after(text, now=NOW) <= LONGEST
