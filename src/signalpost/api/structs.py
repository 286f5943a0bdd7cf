"""Checks a `Struct`: what is accepted must be deliverable as JSON and readable by everyone."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.unknown_fields import UnknownFieldSet

from signalpost.api.findings import Findings

MAX_LEVELS = 16
"""Objects and lists within one another, the outermost included, where nothing else is said."""

MAX_INTEGER = 2**53
"""Beyond it not every integer is a number that JSON readers agree on."""

_QUOTED_LENGTH = 40


def quoted(key: str) -> str:
    """Write a key of a map as part of a path; a long one is cut."""
    return json.dumps(key if len(key) <= _QUOTED_LENGTH else key[:_QUOTED_LENGTH] + "…")


class _Place(NamedTuple):
    """Where a value is. Written out only if something is wrong with it."""

    parent: _Place | str
    key: str | int

    def __str__(self) -> str:
        key = self.key if isinstance(self.key, int) else quoted(self.key)
        return f"{self.parent}[{key}]"


def check_struct(
    struct: Struct, findings: Findings, path: str, *, levels: int = MAX_LEVELS, known: bool = False
) -> None:
    """Note every number, level or field in it that is refused; all fields may be `known`."""
    _StructWalk(findings, levels=levels, known=known).object(struct, path, 1)


class _StructWalk:
    def __init__(self, findings: Findings, *, levels: int, known: bool) -> None:
        self._findings = findings
        self._levels = levels
        self._all_known = known

    def object(self, struct: Struct, place: _Place | str, level: int) -> None:
        self._known(struct, place)
        for key in sorted(struct.fields):
            self._value(struct.fields[key], _Place(place, key), level)

    def _list(self, values: ListValue, place: _Place, level: int) -> None:
        self._known(values, place)
        for index, value in enumerate(values.values):
            self._value(value, _Place(place, index), level)

    def _value(self, value: Value, place: _Place, level: int) -> None:
        self._known(value, place)
        match value.WhichOneof("kind"):
            case "string_value" | "bool_value":
                return
            case "number_value":
                self._number(value.number_value, place)
            case "struct_value" | "list_value" if level == self._levels:
                self._findings.add(str(place), f"is beyond {self._levels} levels")
            case "struct_value":
                self.object(value.struct_value, place, level + 1)
            case "list_value":
                self._list(value.list_value, place, level + 1)
            case "null_value" if value.null_value != 0:
                self._findings.add(str(place), "has a null value unknown to this server")
            case None:
                self._findings.add(str(place), "has no value")

    def _number(self, number: float, place: _Place) -> None:
        if not math.isfinite(number):
            self._findings.add(str(place), "must be a finite number")
        elif abs(number) > MAX_INTEGER:
            problem = "must not be an integer beyond 2^53: send it as text"
            self._findings.add(str(place), problem)

    def _known(self, message: Message, place: _Place | str) -> None:
        if not self._all_known and len(UnknownFieldSet(message)):
            self._findings.add(str(place), "holds a field unknown to this server")
