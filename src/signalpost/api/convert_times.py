"""Times and spans between protobuf and Python, whose finest unit is the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_MICROSECOND = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // timedelta(microseconds=1)


def moment(message: Message, field: str) -> datetime | None:
    """Return the time in a field as `instant` does, None if it is unset."""
    return instant(message, field) if message.HasField(field) else None


def instant(message: Message, field: str) -> datetime:
    """Return the time in a field, rounded up, so that it bounds whole microseconds exactly."""
    value: Timestamp = getattr(message, field)
    microseconds = value.seconds * 10**6 - (-value.nanos // 1000)
    return _EPOCH + timedelta(microseconds=min(microseconds, _LAST_MICROSECOND))


def timestamp(moment: datetime | None) -> Timestamp | None:
    """Return a time as protobuf has it; None stays None."""
    if moment is None:
        return None
    value = Timestamp()
    value.FromDatetime(moment)
    return value


def span(message: Message, field: str, *, default: timedelta) -> timedelta:
    """Return the span in a field, or the default if it is unset."""
    if not message.HasField(field):
        return default
    value: Duration = getattr(message, field)
    return timedelta(seconds=value.seconds, microseconds=value.nanos // 1000)


def duration(span: timedelta | None) -> Duration | None:
    """Return a span as protobuf has it; None stays None."""
    if span is None:
        return None
    value = Duration()
    value.FromTimedelta(span)
    return value
