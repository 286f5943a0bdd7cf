"""How much work a JSON Schema can make, judged before it is used.

References may fan out: forty definitions that each apply the next one twice make a million
million applications. So those are counted that one value, and what it lies in, can meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

MAX_EFFORT: Final = 10_000
"""Most schemas that may apply on the way from a payload to a value within it."""

_MOST_STEPS: Final = 150
"""Schemas that lead from one to the next: enough for any honest one, and no strain on a stack."""

_MOST_LEVELS: Final = 17
"""Payloads have 16 levels of objects and lists, and values in the last of them."""

_HERE: Final = ("not", "if", "then", "else")
_ALL_HERE: Final = ("allOf", "anyOf", "oneOf", "dependentSchemas")
_REFERENCES: Final = ("$ref", "$dynamicRef")
_BELOW: Final = ("contains", "propertyNames")
_ALL_BELOW: Final = ("patternProperties",)
# To a value below only one of these applies.
_ONE_BELOW: Final = (
    "additionalProperties",
    "items",
    "unevaluatedItems",
    "unevaluatedProperties",
)
_ONE_OF_BELOW: Final = ("properties", "prefixItems")
_CHOICES: Final = ("enum", "const")


class Entangled(Exception):
    """The references of a schema lead on and on; the message says how."""


@dataclass(frozen=True, slots=True)
class Effort:
    """What a schema costs for each value of a payload.

    `schemas` apply on the way to one value at most, each value in an object or list to compare
    with counted as one; beyond MAX_EFFORT only roughly. `widest` is the number of values in
    its longest `enum` or `const`, which a problem of it repeats.
    """

    schemas: int
    widest: int


def effort(schema: Mapping[str, object]) -> Effort:
    """Judge a schema. Raises Entangled."""
    choices = (choice for one in _objects(schema) for choice in _members(one, _CHOICES))
    return Effort(
        schemas=_Count(schema).of(schema, 0),
        widest=max(map(count_values, choices), default=0),
    )


def count_values(value: object) -> int:
    """Return how many values there are in a JSON value, itself included."""
    if isinstance(value, dict):
        return 1 + sum(map(count_values, value.values()))
    if isinstance(value, list):
        return 1 + sum(map(count_values, value))
    return 1


class _Count:
    def __init__(self, root: Mapping[str, object]) -> None:
        self._root = root
        self._anchors = dict(_anchors(root))
        self._known: dict[tuple[int, int], int | None] = {}
        self._steps = 0

    def of(self, schema: object, level: int) -> int:
        """Count from a schema on that applies to a value at a level."""
        if not isinstance(schema, dict):
            return 1
        key = (id(schema), level)
        if key not in self._known:
            self._known[key] = None
            # Bounded, so that the numbers stay small ones.
            self._known[key] = min(self._count(schema, level), 2 * MAX_EFFORT)
        known = self._known[key]
        if known is None:
            raise Entangled("refers to itself without an end")
        return known

    def _count(self, schema: Mapping[str, object], level: int) -> int:
        self._steps += 1
        if self._steps > _MOST_STEPS:
            raise Entangled("refers from place to place too many times")
        here = sum(self.of(one, level) for one in self._applied_here(schema))
        here += sum(map(_compared, _members(schema, _CHOICES)))
        below = self._below(schema, level + 1) if level < _MOST_LEVELS else 0
        self._steps -= 1
        return 1 + here + below

    def _applied_here(self, schema: Mapping[str, object]) -> Iterator[object]:
        yield from _members(schema, _HERE)
        yield from _parts(schema, _ALL_HERE)
        for reference in _members(schema, _REFERENCES):
            yield self._target(str(reference))

    def _below(self, schema: Mapping[str, object], level: int) -> int:
        one = [*_members(schema, _ONE_BELOW), *_parts(schema, _ONE_OF_BELOW)]
        every = [*_members(schema, _BELOW), *_parts(schema, _ALL_BELOW)]
        most = max((self.of(each, level) for each in one), default=0)
        return most + sum(self.of(each, level) for each in every)

    def _target(self, reference: str) -> object:
        name = unquote(reference.removeprefix("#"))
        if name and not name.startswith("/"):
            return self._anchors.get(name)
        found: object = self._root
        for part in name.split("/")[1:]:
            found = _member(found, part.replace("~1", "/").replace("~0", "~"))
        return found


def _member(value: object, name: str) -> object:
    if isinstance(value, dict):
        return value.get(name)
    if isinstance(value, list) and name.isdecimal() and int(name) < len(value):
        return value[int(name)]
    return None


def _members(schema: Mapping[str, object], names: tuple[str, ...]) -> Iterator[object]:
    """Yield what stands under these keywords."""
    for name in names:
        if name in schema:
            yield schema[name]


def _parts(schema: Mapping[str, object], names: tuple[str, ...]) -> Iterator[object]:
    """Yield the schemas in the lists or objects under these keywords."""
    for value in _members(schema, names):
        if isinstance(value, dict):
            yield from value.values()
        elif isinstance(value, list):
            yield from value


def _compared(choice: object) -> int:
    """Count what is compared value by value; plain choices are found at once."""
    options = choice if isinstance(choice, list) else [choice]
    return sum(count_values(option) for option in options if isinstance(option, dict | list))


def _anchors(root: object) -> Iterator[tuple[str, object]]:
    for one in _objects(root):
        for name in _members(one, ("$anchor", "$dynamicAnchor")):
            if isinstance(name, str):
                yield name, one


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    """Yield the value and all in it, as far as they are objects."""
    if isinstance(value, dict):
        yield value
        for item in value.values():
            yield from _objects(item)
    elif isinstance(value, list):
        for item in value:
            yield from _objects(item)
