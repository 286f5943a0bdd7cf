"""Numbers of rows that rise in the order of acceptance."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_START = datetime(2020, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MOST_MILLISECONDS = (1 << 41) - 1
_COUNT_BITS = 22


def floor(moment: datetime) -> int:
    """Return a number that none drawn at or after this time falls below."""
    milliseconds = (moment - _START) // _MILLISECOND
    return milliseconds << _COUNT_BITS if 0 < milliseconds < _MOST_MILLISECONDS else 0


def drawn_at(number: int) -> datetime:
    """Return when a number was drawn; later than that if the clock was set back before."""
    return _START + (number >> _COUNT_BITS) * _MILLISECOND


class RowNumbers:
    """Draws numbers below 2^63. They tell the time, and not how many rows there are.

    They go on rising when the clock is set back, and over a restart, where `last` is the
    highest number that is stored.
    """

    def __init__(self, *, last: int) -> None:
        self._last = last

    @property
    def last_time(self) -> datetime | None:
        """When the last number was drawn, None if there was none."""
        return drawn_at(self._last) if self._last else None

    def draw(self, count: int, *, at: datetime) -> range:
        """Return numbers for this many rows that are written at this time."""
        first = max(self._last + 1, floor(at))
        self._last = first + count - 1
        return range(first, first + count)
