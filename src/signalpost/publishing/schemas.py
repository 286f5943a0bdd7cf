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
from jsonschema_rs import (
    Draft202012Validator,
    ReferencingError,
    RegexOptions,
    ValidationError,
    ValidationErrorKind,
)

from signalpost.domain.event_type import MAX_SCHEMA_BYTES
from signalpost.publishing.schema_effort import (
    MAX_EFFORT,
    Effort,
    Entangled,
    count_values,
    effort,
)

MOST_PROBLEMS: Final = 20
"""A payload this wrong is not looked at any further."""

MOST_WORK: Final = 20_000_000
"""Values of a payload times schemas that may apply to one: this takes about a second."""

_MOST_WORK_FOR_PLACES: Final = 50_000
"""The same where every problem is described: that takes a thousand times as long."""

_DESCRIPTION_AT_ONCE: Final = 10
"""Choices that a description repeats before it takes longer for them."""

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_PATTERN_BYTES: Final = 1024 * 1024
_PATTERN_CACHE_BYTES: Final = 4 * 1024 * 1024
"""With less, a large pattern soon runs without its cache, hundreds of times as slow."""
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
    effort: Effort

    @classmethod
    def compile(cls, text: bytes) -> Self:
        """Compile a schema, canonical JSON of an object. Raises SchemaInvalid."""
        if len(text) > MAX_SCHEMA_BYTES:
            raise SchemaInvalid(f"has {len(text)} bytes as JSON, {MAX_SCHEMA_BYTES} at most")
        schema = orjson.loads(text)
        for problem in _foreign(schema, "#"):
            raise SchemaInvalid(problem)
        # First, for the compiler follows references, too, and without a limit.
        needed = _bounded_effort(schema)
        try:
            validator = _validator(schema)
        except ValidationError as error:
            where = "".join(f"/{part}" for part in error.instance_path)
            raise SchemaInvalid(f"at #{where}: {_keyword_refusal(error)}") from None
        except (ReferencingError, ValueError) as error:
            raise SchemaInvalid(str(error)) from None
        return cls(validator, needed)

    def problems(self, payload: bytes) -> Iterator[Problem]:
        """Say what is wrong with a payload, canonical JSON; no more than MOST_PROBLEMS.

        Of a large payload only that it is wrong, for the validator looks for all problems
        before it tells the first one.
        """
        value = orjson.loads(payload)
        values = count_values(value)
        work = values * self.effort.schemas
        if work > MOST_WORK:
            yield Problem("", f"has {values} values, too many for a schema that is so complex")
        elif self.validator.is_valid(value):
            return
        elif work * (1 + self.effort.widest // _DESCRIPTION_AT_ONCE) > _MOST_WORK_FOR_PLACES:
            yield Problem("", "does not satisfy the schema; it is too large to say where")
        else:
            for error in islice(self.validator.iter_errors(value), MOST_PROBLEMS):
                yield Problem(_path(error.instance_path), error.message)


def _validator(schema: dict[str, object]) -> Draft202012Validator:
    return Draft202012Validator(
        schema,
        validate_formats=False,
        retriever=_refuse,
        pattern_options=RegexOptions(
            size_limit=_PATTERN_BYTES, dfa_size_limit=_PATTERN_CACHE_BYTES
        ),
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


def _keyword_refusal(error: ValidationError) -> str:
    """Say what a keyword must be, where the library says by which rule of its own it is not."""
    match error.kind:
        case ValidationErrorKind.AnyOf():  # no other keyword has a choice
            return (
                "must be array, boolean, integer, null, number, object or string,"
                " or a list of these"
            )
        case ValidationErrorKind.Format(format="regex"):
            return (
                "must be a regular expression that takes linear time: no look-around,"
                " no back-references, no huge repetition"
            )
        case _:
            return error.message


def _bounded_effort(schema: dict[str, object]) -> Effort:
    try:
        needed = effort(schema)
    except Entangled as error:
        raise SchemaInvalid(str(error)) from None
    if needed.schemas > MAX_EFFORT:
        raise SchemaInvalid(f"may apply more than {MAX_EFFORT} schemas to one value")
    return needed


def _path(parts: Sequence[str | int]) -> str:
    return "".join(f"[{_part(part)}]" for part in parts)


def _part(part: str | int) -> str:
    if isinstance(part, str) and len(part) > _KEY_LENGTH:
        part = part[:_KEY_LENGTH] + "…"
    return orjson.dumps(part).decode()
