"""Checks a `Struct`: what is accepted must be deliverable as JSON and readable by everyone."""

from __future__ import annotations

import json
import math

from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.unknown_fields import UnknownFieldSet

from signalpost.api.findings import Findings

MAX_LEVELS = 16
"""Objects and lists within one another, the outermost included."""

MAX_INTEGER = 2**53
"""Beyond it not every integer is a number that JSON readers agree on."""

_QUOTED_LENGTH = 40


def quoted(key: str) -> str:
    """Write a key of a map as part of a path; a long one is cut."""
    return json.dumps(key if len(key) <= _QUOTED_LENGTH else key[:_QUOTED_LENGTH] + "…")


def check_struct(struct: Struct, findings: Findings, path: str) -> None:
    """Note every number, level or field in it that is refused."""
    _StructWalk(findings).object(struct, path, 1)


class _StructWalk:
    def __init__(self, findings: Findings) -> None:
        self._findings = findings

    def object(self, struct: Struct, path: str, level: int) -> None:
        self._known(struct, path)
        for key in sorted(struct.fields):
            self._value(struct.fields[key], f"{path}[{quoted(key)}]", level)

    def _list(self, values: ListValue, path: str, level: int) -> None:
        self._known(values, path)
        for index, value in enumerate(values.values):
            self._value(value, f"{path}[{index}]", level)

    def _value(self, value: Value, path: str, level: int) -> None:
        kind = value.WhichOneof("kind")
        self._known(value, path)
        match kind:
            case "number_value":
                self._number(value.number_value, path)
            case "struct_value" | "list_value" if level == MAX_LEVELS:
                self._findings.add(path, f"is beyond {MAX_LEVELS} levels")
            case "struct_value":
                self.object(value.struct_value, path, level + 1)
            case "list_value":
                self._list(value.list_value, path, level + 1)
            case "null_value" if value.null_value != 0:
                self._findings.add(path, "has a null value unknown to this server")
            case None:
                self._findings.add(path, "has no value")

    def _number(self, number: float, path: str) -> None:
        if not math.isfinite(number):
            self._findings.add(path, "must be a finite number")
        elif abs(number) > MAX_INTEGER:
            self._findings.add(path, "must not be an integer beyond 2^53: send it as text")

    def _known(self, message: Message, path: str) -> None:
        if len(UnknownFieldSet(message)):
            self._findings.add(path, "holds a field unknown to this server")
