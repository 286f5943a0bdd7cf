"""The `Retry-After` header (RFC 9110, section 10.2.3), read so that no value can do harm."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate

LONGEST = timedelta(hours=24)
"""Longest wait that an endpoint can ask for."""

_MOST_DIGITS = 9
_LONGEST_TEXT = 64


def parse_retry_after(text: str, *, now: datetime) -> timedelta:
    """Return how long an endpoint asks to be left alone, from zero to 24 hours.

    Takes seconds and the three forms of an HTTP date, which is always GMT whatever zone it
    names. What is neither, or lies in the past, is zero.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        return LONGEST if len(text) > _MOST_DIGITS else min(timedelta(seconds=int(text)), LONGEST)
    moment = _parse_date(text)
    if moment is None:
        return timedelta()
    return min(max(moment - now, timedelta()), LONGEST)


def _parse_date(text: str) -> datetime | None:
    if len(text) > _LONGEST_TEXT:
        return None
    try:
        fields = parsedate(text)
        if fields is None:
            return None
        year, month, day, hour, minute, second = fields[:6]
        # A leap second is the first one of the next minute, where times are counted.
        leap = timedelta(seconds=second == 60)
        return datetime(year, month, day, hour, minute, second - leap.seconds, tzinfo=UTC) + leap
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
