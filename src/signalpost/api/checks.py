"""Checks requests: the table of `constraints`, and what holds for every message.

Anywhere in a request are refused: fields and enum values that this server does not know,
NaN and infinity, times and durations that are none, and in a `Struct` what could not be
delivered as it came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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

from signalpost.api.constraints import CONSTRAINTS
from signalpost.api.findings import MAX_VIOLATIONS, Findings, TooMany
from signalpost.api.rules import Rule
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


def required(path: str) -> Violation:
    """Say that a field is missing."""
    return Violation(path, Reason.FIELD_INVALID, "is required")


@dataclass(frozen=True, slots=True)
class _FieldPlan:
    """What the walk must know of a field, read from its descriptor once.

    Nothing can be wrong with a `free` one: text, an integer or a boolean without a rule.
    """

    name: str
    rule: Rule
    free: bool
    repeated: bool
    mapped: bool
    kind: int
    message_type: str
    enum_values: frozenset[int]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the walk must know of a message: its fields by number, and which are required."""

    fields: Mapping[int, _FieldPlan]
    required: frozenset[str]
    payload_numbers: range


@cache
def _plan(descriptor: Descriptor) -> _Plan:
    rules = CONSTRAINTS.get(descriptor.name, {})
    fields = {
        field.number: _field_plan(field, rules.get(field.name, _NO_RULE))
        for field in descriptor.fields
    }
    return _Plan(
        fields,
        frozenset(name for name, rule in rules.items() if rule.required),
        _PAYLOAD_NUMBERS if descriptor is Event.DESCRIPTOR else range(0),
    )


def _field_plan(field: FieldDescriptor, rule: Rule) -> _FieldPlan:
    message, enum = field.message_type, field.enum_type
    plain = message is None and enum is None and field.cpp_type != FieldDescriptor.CPPTYPE_DOUBLE
    return _FieldPlan(
        name=field.name,
        rule=rule,
        free=plain and rule.check is None and rule.most is None,
        repeated=field.is_repeated,
        mapped=message is not None and message.GetOptions().map_entry,
        kind=field.cpp_type,
        message_type=message.full_name if message is not None else "",
        enum_values=frozenset(enum.values_by_number) if enum is not None else frozenset(),
    )


class _Walk:
    """Goes through a message and everything in it; all its fields may be `known` before."""

    def __init__(self, findings: Findings, *, known: bool) -> None:
        self._findings = findings
        self._known = known

    def message(self, message: Message, path: str) -> None:
        """Check a message of the contract; `path` is "" or ends with a dot."""
        plan = _plan(message.DESCRIPTOR)
        missing = set(plan.required)
        for descriptor, value in message.ListFields():
            field = plan.fields[descriptor.number]
            missing.discard(field.name)
            if not field.free:
                self._field(value, field, path + field.name)
        if self._unknown(message, plan, path):
            missing.discard("payload")
        for name in sorted(missing):
            self._require(message, name, path)

    def _require(self, message: Message, name: str, path: str) -> None:
        oneof = name in message.DESCRIPTOR.oneofs_by_name
        if not (oneof and message.WhichOneof(name)):
            self._findings.add(path + name, "is required")

    def _unknown(self, message: Message, plan: _Plan, path: str) -> bool:
        if self._known:
            return False
        unknown = UnknownFieldSet(message)
        if not len(unknown):
            return False
        looked_at = range(min(len(unknown), MAX_VIOLATIONS))
        for number in sorted({unknown[index].field_number for index in looked_at}):
            if number in plan.payload_numbers:
                self._findings.add(
                    f"{path}{number}",
                    "is the payload of an event type unknown to this server",
                    reason=Reason.EVENT_TYPE_UNKNOWN,
                    metadata={"eventType": str(number)},
                )
            else:
                self._findings.add(f"{path}{number}", "is a field unknown to this server")
        return True

    def _field(self, value: Any, field: _FieldPlan, path: str) -> None:
        if not field.repeated:
            self._value(value, field, path)
        elif field.rule.most is not None and len(value) > field.rule.most:
            self._findings.add(path, f"has {len(value)} entries, {field.rule.most} at most")
        elif field.mapped:
            self._map(value, field.rule, path)
        elif not field.rule.apart:
            self._list(value, field, path)

    def _list(self, values: Sequence[Any], field: _FieldPlan, path: str) -> None:
        for index, value in enumerate(values):
            if field.enum_values and value == 0:
                self._findings.add(f"{path}[{index}]", "must not be unspecified")
            else:
                self._value(value, field, f"{path}[{index}]")

    def _map(self, values: Mapping[str, str], rule: Rule, path: str) -> None:
        """Check a map from text to text, the only kind there is in requests."""
        for key in sorted(values):
            for check_part, part in ((rule.key, key), (rule.check, values[key])):
                if check_part is not None and (description := check_part(part)):
                    self._findings.add(f"{path}[{quoted(key)}]", description)

    def _value(self, value: Any, field: _FieldPlan, path: str) -> None:
        if field.kind == FieldDescriptor.CPPTYPE_MESSAGE:
            if not self._valid_message(value, field, path):
                return
        elif field.kind == FieldDescriptor.CPPTYPE_ENUM:
            if value not in field.enum_values:
                self._unknown_enum(value, field, path)
                return
        elif field.kind == FieldDescriptor.CPPTYPE_DOUBLE and not math.isfinite(value):
            self._findings.add(path, "must be a finite number")
            return
        if field.rule.check is not None and (description := field.rule.check(value)):
            self._findings.add(path, description)

    def _unknown_enum(self, value: int, field: _FieldPlan, path: str) -> None:
        of_type = field.rule.unknown is Reason.EVENT_TYPE_UNKNOWN
        self._findings.add(
            path,
            f"has the value {value}, unknown to this server",
            reason=field.rule.unknown,
            metadata={"eventType": str(value)} if of_type else None,
        )

    def _valid_message(self, value: Any, field: _FieldPlan, path: str) -> bool:
        """Check what lies within; False if no rule need look at the message any more."""
        name, problem = field.message_type, None
        match name:
            case Struct.DESCRIPTOR.full_name:
                levels = field.rule.levels
                check_struct(value, self._findings, path, levels=levels, known=self._known)
            case Timestamp.DESCRIPTOR.full_name:
                problem = _timestamp_problem(value)
            case Duration.DESCRIPTOR.full_name:
                problem = _duration_problem(value)
            case _:
                self.message(value, path + ".")
                return True
        if problem is not None:
            self._findings.add(path, problem)
        elif name != Struct.DESCRIPTOR.full_name:
            self._unknown(value, _plan(value.DESCRIPTOR), path + ".")
        return problem is None


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
