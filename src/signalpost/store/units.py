"""Times and durations as the whole microseconds that are stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_time(moment: datetime) -> int:
    """Write an aware time as microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def to_time(micros: int) -> datetime:
    """Read what `from_time` wrote."""
    return _EPOCH + timedelta(microseconds=micros)


def from_duration(duration: timedelta) -> int:
    """Write a duration as microseconds."""
    return duration // _MICROSECOND


def to_duration(micros: int) -> timedelta:
    """Read what `from_duration` wrote."""
    return timedelta(microseconds=micros)


def from_optional_time(moment: datetime | None) -> int | None:
    """Write a time that may be missing."""
    return None if moment is None else from_time(moment)


def to_optional_time(micros: int | None) -> datetime | None:
    """Read what `from_optional_time` wrote."""
    return None if micros is None else to_time(micros)


def from_optional_duration(duration: timedelta | None) -> int | None:
    """Write a duration that may be missing."""
    return None if duration is None else from_duration(duration)


def to_optional_duration(micros: int | None) -> timedelta | None:
    """Read what `from_optional_duration` wrote."""
    return None if micros is None else to_duration(micros)
