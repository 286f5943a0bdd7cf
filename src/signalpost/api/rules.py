"""What a field may hold: rules for one value, each with its words for people."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.api.structs import MAX_LEVELS
from signalpost.domain.errors import Reason

Check = Callable[[Any], str | None]
"""Tells what is wrong with a value that is set, or None."""


Relation = Callable[[Message], tuple[str, str] | None]
"""Tells which field of a message is wrong beside another one, and what is wrong, or None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for a field. `check` is for its value; in a list or map, for each one.

    `most` bounds a list or map, `key` checks the keys of a map. `unknown` is the reason of a
    violation if an enum value is not known. The entries of a list that are judged `apart` are
    checked one by one elsewhere, each for an answer of its own. A `Struct` has at most `levels`.
    """

    required: bool = False
    check: Check | None = None
    most: int | None = None
    key: Check | None = None
    unknown: Reason = Reason.FIELD_INVALID
    apart: bool = False
    levels: int = MAX_LEVELS


def text(pattern: str, wants: str) -> Check:
    """Demand that all of a string matches; `wants` says it in words."""
    matches = re.compile(pattern, re.DOTALL).fullmatch
    description = f"must be {wants}"

    def check(value: str) -> str | None:
        return None if matches(value) else description

    return check


def length(*, least: int = 0, most: int) -> Check:
    """Demand that a string has so many characters."""

    def check(value: str) -> str | None:
        if least <= len(value) <= most:
            return None
        bounds = f"{least} to {most}" if least else f"at most {most}"
        return f"must have {bounds} characters, not {len(value)}"

    return check


def number(least: float, most: float) -> Check:
    """Demand that a number lies within these bounds, both included."""

    def check(value: float) -> str | None:
        return None if least <= value <= most else f"must be {least} to {most}"

    return check


def duration(least: timedelta, most: timedelta, *, wants: str) -> Check:
    """Demand that a valid duration lies within these bounds, both included."""

    def check(value: Duration) -> str | None:
        inside = _nanoseconds(least) <= _nanoseconds_of(value) <= _nanoseconds(most)
        return None if inside else f"must be {wants}"

    return check


def _nanoseconds(span: timedelta) -> int:
    return span // timedelta(microseconds=1) * 1000


def _nanoseconds_of(value: Duration) -> int:
    return value.seconds * 10**9 + value.nanos


def after(start: str, end: str) -> Relation:
    """Demand that of two times that are set, in whole microseconds, `end` is after `start`."""

    def relate(message: Message) -> tuple[str, str] | None:
        if not (message.HasField(start) and message.HasField(end)):
            return None
        if _microseconds_up(getattr(message, start)) < _microseconds_up(getattr(message, end)):
            return None
        return end, f"must be after {start}"

    return relate


def _microseconds_up(value: Timestamp) -> int:
    # Rounded as a bound is where it is looked for, but also what is no time.
    return value.seconds * 10**6 - (-value.nanos // 1000)


def at_least(low: str, high: str) -> Relation:
    """Demand that of two durations that are set, `high` is not below `low`."""

    def relate(message: Message) -> tuple[str, str] | None:
        if not (message.HasField(low) and message.HasField(high)):
            return None
        least: Duration = getattr(message, low)
        if _nanoseconds_of(getattr(message, high)) >= _nanoseconds_of(least):
            return None
        seconds = f"{_nanoseconds_of(least) / 10**9:.12g}"
        return high, f"must be at least {low} ({seconds}s)"

    return relate


def readable(read: Callable[[str], object]) -> Check:
    """Demand that `read` takes a string; the message of its ValueError is told to the caller."""

    def check(value: str) -> str | None:
        try:
            read(value)
        except ValueError as error:
            return str(error)
        return None

    return check


def cidr(value: str) -> str | None:
    """Demand an address range whose host bits are zero."""
    try:
        ip_network(value, strict=True)
    except ValueError:
        return 'must be a CIDR range without host bits, such as "198.41.0.0/24"'
    return None if "/" in value else "must have a prefix length"
