"""Checks requests: the table of `constraints`, and what holds for every message.

Anywhere in a request are refused: fields and enum values that this server does not know,
NaN and infinity, times and durations that are none, and in a `Struct` what could not be
delivered as it came.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp
from google.protobuf.unknown_fields import UnknownFieldSet

from signalpost.api.constraints import CONSTRAINTS, RELATIONS
from signalpost.api.findings import MAX_VIOLATIONS, Findings, TooMany
from signalpost.api.rules import Check, Relation, Rule
from signalpost.api.structs import check_struct, quoted
from signalpost.domain.errors import Reason, RequestInvalid, Violation
from signalpost.v1.event_pb2 import Event

MIN_SECONDS = -62_135_596_800
"""0001-01-01T00:00:00Z."""
MAX_SECONDS = 253_402_300_799
"""9999-12-31T23:59:59Z."""
MAX_DURATION_SECONDS = 315_576_000_000
"""10,000 years, as the definition of `Duration` has it."""

_MOST_UNKNOWN_BYTES = 64 * 1024
_PAYLOAD_NUMBERS = range(10, 1000)
_NO_RULE = Rule()


def check(request: Message) -> list[Violation]:
    """Return everything that is wrong with the shape of a request, in the order of its fields.

    Ends early at `MAX_VIOLATIONS`, and with so many unknown fields that to name them takes long.
    """
    unknown_bytes = _unknown_bytes(request)
    if unknown_bytes > _MOST_UNKNOWN_BYTES:
        description = f"has {unknown_bytes} bytes in fields unknown to this server"
        return [Violation("", Reason.FIELD_INVALID, description)]
    findings = Findings()
    with suppress(TooMany):
        _Walk(findings, known=not unknown_bytes).message(request, "")
    return findings.violations


def _unknown_bytes(request: Message) -> int:
    """Return how much of a request, at all depths, this server does not know."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.DiscardUnknownFields()
    return request.ByteSize() - bare.ByteSize()


def demand(request: Message) -> None:
    """Raise RequestInvalid if anything is wrong with the shape of a request."""
    if violations := check(request):
        raise RequestInvalid(violations)


def at_odds(message: Message, path: str) -> list[Violation]:
    """Return what is wrong between two fields of a message at a path, each of them sound."""
    wrong = RELATIONS[message.DESCRIPTOR.name](message)
    return [Violation(f"{path}.{wrong[0]}", Reason.FIELD_INVALID, wrong[1])] if wrong else []


def required(path: str) -> Violation:
    """Say that a field is missing."""
    return Violation(path, Reason.FIELD_INVALID, "is required")


_Look = Callable[["_Walk", Any, str], bool]
"""Finds what is wrong with a value at a path; False if no rule need look at it any more."""


@dataclass(frozen=True, slots=True)
class _FieldPlan:
    """What the walk must know of a field.

    `look` is None if nothing can be wrong with it: text, an integer or a boolean without a
    rule. `gives` is the bit of what is required and is there if this field is set.
    """

    name: str
    look: _Look | None
    gives: int


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the walk must know of a message, read from its descriptor once.

    Its fields are by number; what is required, a field or a oneof, is a bit each.
    """

    fields: Mapping[int, _FieldPlan]
    required: Mapping[str, int]
    payload_numbers: range
    relation: Relation | None

    def missing(self, given: int) -> list[str]:
        """Return the names of what is required and not among the bits that are given."""
        return [name for name, bit in self.required.items() if not given & bit]


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    rules = CONSTRAINTS.get(descriptor.name, {})
    names = sorted(name for name, rule in rules.items() if rule.required)
    required = {name: 1 << place for place, name in enumerate(names)}
    fields = {
        field.number: _FieldPlan(
            field.name,
            _look(field, rules.get(field.name, _NO_RULE)),
            required.get(field.name, 0) | required.get(_oneof(field), 0),
        )
        for field in descriptor.fields
    }
    payload_numbers = _PAYLOAD_NUMBERS if descriptor is Event.DESCRIPTOR else range(0)
    return _Plan(fields, required, payload_numbers, RELATIONS.get(descriptor.name))


def _oneof(field: FieldDescriptor) -> str:
    return "" if field.containing_oneof is None else field.containing_oneof.name


class _Walk:
    """Goes through a message and everything in it; all its fields may be `known` before."""

    def __init__(self, findings: Findings, *, known: bool) -> None:
        self.add = findings.add
        self.findings = findings
        self.known = known

    def message(self, message: Message, path: str) -> bool:
        """Check a message of the contract; `path` is "" or ends with a dot."""
        plan = _plan(message.DESCRIPTOR)
        fields, given = plan.fields, 0
        for descriptor, value in message.ListFields():
            field = fields[descriptor.number]
            given |= field.gives
            if field.look is not None:
                field.look(self, value, path + field.name)
        if not self.known and self.unknown(message, plan, path):
            given |= plan.required.get("payload", 0)
        for name in plan.missing(given):
            self.add(path + name, "is required")
        if plan.relation is not None and (wrong := plan.relation(message)):
            self.add(path + wrong[0], wrong[1])
        return True

    def unknown(self, message: Message, plan: _Plan, path: str) -> bool:
        """Find fields of a message that this server does not know; tell whether there are any."""
        unknown = UnknownFieldSet(message)
        if not len(unknown):
            return False
        looked_at = range(min(len(unknown), MAX_VIOLATIONS))
        for number in sorted({unknown[index].field_number for index in looked_at}):
            if number in plan.payload_numbers:
                self.add(
                    f"{path}{number}",
                    "is the payload of an event type unknown to this server",
                    reason=Reason.EVENT_TYPE_UNKNOWN,
                    metadata={"eventType": str(number)},
                )
            else:
                self.add(f"{path}{number}", "is a field unknown to this server")
        return True


def _look(field: FieldDescriptor, rule: Rule) -> _Look | None:
    """Return what looks at the value of a field if it is set."""
    if not field.is_repeated:
        return _then(_at_one(field, rule), rule.check)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _bounded(rule.most, _at_map(rule))
    return _bounded(rule.most, None if rule.apart else _at_each(field, rule))


def _at_one(field: FieldDescriptor, rule: Rule) -> _Look | None:
    """Return what looks at one value of a field, but for its rule."""
    if field.enum_type is not None:
        return _at_enum(frozenset(field.enum_type.values_by_number), rule)
    if field.cpp_type == FieldDescriptor.CPPTYPE_DOUBLE:
        return _at_double
    if field.message_type is None:
        return None
    match field.message_type.full_name:
        case Struct.DESCRIPTOR.full_name:
            return _at_struct(rule.levels)
        case Timestamp.DESCRIPTOR.full_name:
            return _at_well_known(_timestamp_problem)
        case Duration.DESCRIPTOR.full_name:
            return _at_well_known(_duration_problem)
        case _:
            return lambda walk, value, path: walk.message(value, path + ".")


def _then(first: _Look | None, check_value: Check | None) -> _Look | None:
    """Return what looks at a value first in the one way, and then by its rule."""
    if check_value is None:
        return first

    def look(walk: _Walk, value: Any, path: str) -> bool:
        if first is not None and not first(walk, value, path):
            return False
        if description := check_value(value):
            walk.add(path, description)
        return True

    return look


def _bounded(most: int | None, look_within: _Look | None) -> _Look | None:
    """Return what looks at a list or a map, if that has not too many entries."""
    if most is None:
        return look_within

    def look(walk: _Walk, values: Any, path: str) -> bool:
        if len(values) > most:
            walk.add(path, f"has {len(values)} entries, {most} at most")
        elif look_within is not None:
            look_within(walk, values, path)
        return True

    return look


def _at_each(field: FieldDescriptor, rule: Rule) -> _Look | None:
    look_at_one = _then(_at_one(field, rule), rule.check)
    if look_at_one is None:
        return None
    unspecified = 0 if field.enum_type is not None else None

    def look(walk: _Walk, values: Sequence[Any], path: str) -> bool:
        for index, value in enumerate(values):
            if value == unspecified:
                walk.add(f"{path}[{index}]", "must not be unspecified")
            else:
                look_at_one(walk, value, f"{path}[{index}]")
        return True

    return look


def _at_map(rule: Rule) -> _Look:
    """Look at a map from text to text, the only kind there is in requests."""

    def look(walk: _Walk, values: Mapping[str, str], path: str) -> bool:
        for key in sorted(values):
            for check_part, part in ((rule.key, key), (rule.check, values[key])):
                if check_part is not None and (description := check_part(part)):
                    walk.add(f"{path}[{quoted(key)}]", description)
        return True

    return look


def _at_enum(known: Collection[int], rule: Rule) -> _Look:
    def look(walk: _Walk, value: int, path: str) -> bool:
        if value in known:
            return True
        of_type = rule.unknown is Reason.EVENT_TYPE_UNKNOWN
        walk.add(
            path,
            f"has the value {value}, unknown to this server",
            reason=rule.unknown,
            metadata={"eventType": str(value)} if of_type else None,
        )
        return False

    return look


def _at_double(walk: _Walk, value: float, path: str) -> bool:
    if math.isfinite(value):
        return True
    walk.add(path, "must be a finite number")
    return False


def _at_struct(levels: int) -> _Look:
    def look(walk: _Walk, value: Struct, path: str) -> bool:
        check_struct(value, walk.findings, path, levels=levels, known=walk.known)
        return True

    return look


def _at_well_known(problem_of: Callable[[Any], str | None]) -> _Look:
    def look(walk: _Walk, value: Message, path: str) -> bool:
        if problem := problem_of(value):
            walk.add(path, problem)
            return False
        if not walk.known:
            walk.unknown(value, _plan(value.DESCRIPTOR), path + ".")
        return True

    return look


def _timestamp_problem(value: Timestamp) -> str | None:
    if not MIN_SECONDS <= value.seconds <= MAX_SECONDS:
        return "must be a time of the years 1 to 9999"
    if not 0 <= value.nanos < 10**9:
        return "must have 0 to 999999999 nanos"
    return None


def _duration_problem(value: Duration) -> str | None:
    if abs(value.seconds) > MAX_DURATION_SECONDS:
        return "must be at most 10000 years"
    if not -(10**9) < value.nanos < 10**9 or value.seconds * value.nanos < 0:
        return "must have nanos below a second and of the same sign as its seconds"
    return None
