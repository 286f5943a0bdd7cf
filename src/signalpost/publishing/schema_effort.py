"""How much work a JSON Schema can make, judged before it is used.

References may fan out: forty definitions that each apply the next one twice make a million
million applications. So those are counted that one value, and what it lies in, can meet.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

MAX_EFFORT: Final = 10_000
"""Most schemas that may apply on the way from a payload to a value within it."""

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


class EndlessSchema(Exception):
    """A schema that applies itself to the same value again."""


def effort(schema: Mapping[str, object]) -> int:
    """Return how many schemas apply on the way to one value at most; beyond MAX_EFFORT roughly.

    Raises EndlessSchema.
    """
    return _Count(schema).of(schema, 0)


class _Count:
    def __init__(self, root: Mapping[str, object]) -> None:
        self._root = root
        self._anchors = dict(_anchors(root))
        self._known: dict[tuple[int, int], int | None] = {}

    def of(self, schema: object, level: int) -> int:
        """Count from a schema on that applies to a value at a level."""
        if not isinstance(schema, dict):
            return 1
        key = (id(schema), level)
        if key not in self._known:
            self._known[key] = None
            here = sum(self.of(one, level) for one in self._applied_here(schema))
            below = self._below(schema, level + 1) if level < _MOST_LEVELS else 0
            # Bounded, so that the numbers stay small ones.
            self._known[key] = min(1 + here + below, 2 * MAX_EFFORT)
        known = self._known[key]
        if known is None:
            raise EndlessSchema
        return known

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


def _anchors(value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for keyword in ("$anchor", "$dynamicAnchor"):
            if isinstance(name := value.get(keyword), str):
                yield name, value
        for item in value.values():
            yield from _anchors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _anchors(item)
