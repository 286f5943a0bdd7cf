"""JSON Schemas of payloads (2020-12), without any I/O and in bounded time.

A schema refers only to places within it; should one slip through, the retriever refuses.
Patterns run on an engine that takes linear time, so none has look-around or back-references.
`format` only describes, which is what the standard says where nothing else is agreed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, NoReturn, Self

import orjson
from jsonschema_rs import Draft202012Validator, ReferencingError, RegexOptions, ValidationError

from signalpost.domain.event_type import MAX_SCHEMA_BYTES
from signalpost.publishing.schema_effort import MAX_EFFORT, EndlessSchema, effort

MOST_PROBLEMS: Final = 20
"""A payload this wrong is not looked at any further."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PATTERN_BYTES: Final = 1024 * 1024
_KEY_LENGTH: Final = 40


class SchemaInvalid(Exception):
    """A schema cannot be used; the message says where and why."""


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a payload; `path` leads into it, such as '["items"][2]'."""

    path: str
    description: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A compiled schema."""

    validator: Draft202012Validator

    @classmethod
    def compile(cls, text: bytes) -> Self:
        """Compile a schema, canonical JSON of an object. Raises SchemaInvalid."""
        if len(text) > MAX_SCHEMA_BYTES:
            raise SchemaInvalid(f"has {len(text)} bytes as JSON, {MAX_SCHEMA_BYTES} at most")
        schema = orjson.loads(text)
        for problem in _foreign(schema, "#"):
            raise SchemaInvalid(problem)
        # First, for the compiler follows references, too, and without a limit.
        _demand_ease(schema)
        try:
            validator = _validator(schema)
        except ValidationError as error:
            where = "".join(f"/{part}" for part in error.instance_path)
            raise SchemaInvalid(f"at #{where}: {error.message}") from None
        except (ReferencingError, ValueError) as error:
            raise SchemaInvalid(str(error)) from None
        return cls(validator)

    def problems(self, payload: bytes) -> Iterator[Problem]:
        """Say what is wrong with a payload, canonical JSON; no more than MOST_PROBLEMS."""
        value = orjson.loads(payload)
        if self.validator.is_valid(value):
            return
        for error in islice(self.validator.iter_errors(value), MOST_PROBLEMS):
            yield Problem(_path(error.instance_path), error.message)


def _validator(schema: dict[str, object]) -> Draft202012Validator:
    return Draft202012Validator(
        schema,
        validate_formats=False,
        retriever=_refuse,
        pattern_options=RegexOptions(size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_BYTES),
        # What a payload holds does not belong into messages, which end in logs.
        mask="the value",
    )


def _refuse(uri: str) -> NoReturn:
    raise LookupError(f"{uri} lies outside of the schema")


def _foreign(value: object, place: str) -> Iterator[str]:
    """Say where a schema leaves itself. Data that looks like it, as in `const`, counts, too."""
    if isinstance(value, dict):
        for key, item in value.items():
            at = f"{place}/{key}"
            if isinstance(item, str) and (problem := _keyword_problem(key, item)):
                yield f"at {at}: {problem}"
            yield from _foreign(item, at)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _foreign(item, f"{place}/{index}")


def _keyword_problem(key: str, value: str) -> str | None:
    match key:
        case "$ref" | "$dynamicRef" | "$recursiveRef" if not value.startswith("#"):
            return 'must lead to a place within the schema, such as "#/$defs/name"'
        case "$id":
            return "must not be there: the schema has no address"
        case "$schema" if value.removesuffix("#") != _DIALECT:
            return f'must be "{_DIALECT}"'
    return None


def _demand_ease(schema: dict[str, object]) -> None:
    try:
        needed = effort(schema)
    except EndlessSchema:
        raise SchemaInvalid("refers to itself without an end") from None
    except RecursionError:
        raise SchemaInvalid("refers from place to place too many times") from None
    if needed > MAX_EFFORT:
        raise SchemaInvalid(f"may apply more than {MAX_EFFORT} schemas to one value")


def _path(parts: Sequence[str | int]) -> str:
    return "".join(f"[{_part(part)}]" for part in parts)


def _part(part: str | int) -> str:
    if isinstance(part, str) and len(part) > _KEY_LENGTH:
        part = part[:_KEY_LENGTH] + "…"
    return orjson.dumps(part).decode()
