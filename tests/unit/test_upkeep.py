"""What a start makes of the time of the newest event."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from signalpost.delivery.upkeep import hold_after

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("ago", "hours", "told"),
    [
        (None, 0, None),
        (timedelta(days=30), 0, None),
        (timedelta(days=31), 1, "nothing was published for long"),
        (-timedelta(hours=2), 0, None),
        (-timedelta(days=3653), 0, "accepted by a clock that was ahead"),
    ],
)
def test_a_clock_that_may_be_wrong_is_told(
    ago: timedelta | None, hours: int, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "signalpost")
    last = None if ago is None else NOW - ago
    assert hold_after(last=last, now=NOW) == timedelta(hours=hours)
    assert len(caplog.messages) == (told is not None)
    assert (told or "") in "".join(caplog.messages)
