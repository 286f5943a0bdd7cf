"""Registering, changing and deleting event types."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from signalpost.domain.errors import (
    AlreadyExists,
    EtagMismatch,
    EventTypeBuiltin,
    NotFound,
    QuotaExceeded,
    Reason,
    RequestInvalid,
    Violation,
)
from signalpost.domain.event_type import (
    MAX_EVENT_TYPES,
    MAX_SCHEMA_BYTES,
    EventType,
    name_problem,
    stamped,
)
from signalpost.ports import Clock, EventTypeStore
from signalpost.publishing.catalogue import Catalogue
from signalpost.publishing.schemas import Schema, SchemaInvalid

_logger: Final = logging.getLogger(__name__)

_T = TypeVar("_T")

Draw = Callable[[EventType], EventType]
"""Draws what a stored event type is to become."""


class EventTypes:
    """Changes the catalogue, one change after the other.

    What was begun is finished, so that a caller that goes away leaves the catalogue as
    storage has it.
    """

    def __init__(self, store: EventTypeStore, *, catalogue: Catalogue, clock: Clock) -> None:
        self._store = store
        self._catalogue = catalogue
        self._clock = clock
        self._lock = asyncio.Lock()

    async def create(
        self, draft: EventType, *, found: Sequence[Violation] = (), validate_only: bool
    ) -> EventType:
        """Register an event type, or only tell what it would be.

        Raises RequestInvalid with all violations, those of the shape, which were `found`, first;
        AlreadyExists, QuotaExceeded.
        """
        more = [*_name_violations(draft), *_violations(draft)]
        said = {one.field for one in found}
        _demand([*found, *(one for one in more if one.field not in said)])
        made = stamped(draft, now=self._clock.now())

        async def change() -> EventType:
            if made.name in self._catalogue:
                raise AlreadyExists("event_type", made.name)
            if self._catalogue.registered_count >= MAX_EVENT_TYPES:
                message = f"{MAX_EVENT_TYPES} event types are registered, the most there may be"
                raise QuotaExceeded("event_types", message)
            return made if validate_only else await self._store.create_event_type(made)

        stored = await self._change(made.name, change)
        if validate_only:
            return stored
        _logger.info("event type registered", extra={"event_type": made.name})
        return stored

    async def update(
        self, name: str, draw: Draw, *, etag: str | None, validate_only: bool
    ) -> EventType:
        """Store what `draw` makes of an event type, or only tell what that would be.

        What changes nothing is not stored. Raises NotFound, EventTypeBuiltin, EtagMismatch,
        RequestInvalid.
        """

        async def change() -> EventType:
            former = self._changeable(name)
            if etag is not None and etag != former.etag:
                raise EtagMismatch("event_type", name)
            drawn = draw(former)
            _demand(list(_violations(drawn)))
            if drawn == former:
                return former
            now = self._clock.now()
            if validate_only:
                return replace(drawn, update_time=now)
            stored = await self._store.replace_event_type(drawn, now=now)
            _logger.info("event type changed", extra={"event_type": name})
            return stored

        return await self._change(name, change)

    async def delete(self, name: str, *, etag: str | None, allow_missing: bool) -> None:
        """Delete an event type; events stored under it stay, and so do filters that name it.

        Raises NotFound unless that is allowed, EventTypeBuiltin, EtagMismatch.
        """

        async def change() -> None:
            self._changeable(name)
            await self._store.delete_event_type(name, etag=etag)
            _logger.info("event type deleted", extra={"event_type": name})

        try:
            await self._change(name, change)
        except NotFound:
            if not allow_missing:
                raise

    def _changeable(self, name: str) -> EventType:
        found = self._catalogue.get(name)
        if found.builtin:
            raise EventTypeBuiltin(name)
        return found

    async def _change(self, name: str, change: Callable[[], Awaitable[_T]]) -> _T:
        async def finish() -> _T:
            async with self._lock:
                try:
                    return await change()
                finally:
                    # Storage knows, also when it did not say what became of a change.
                    if not self._is_builtin(name):
                        await self._catalogue.refresh(name)

        return await asyncio.shield(asyncio.create_task(finish()))

    def _is_builtin(self, name: str) -> bool:
        found = self._catalogue.find(name)
        return found is not None and found.builtin


def _demand(violations: list[Violation]) -> None:
    if violations:
        raise RequestInvalid(violations)


def _name_violations(draft: EventType) -> Iterator[Violation]:
    if problem := name_problem(draft.name):
        yield Violation("event_type.name", Reason.FIELD_INVALID, problem)


def _violations(draft: EventType) -> Iterator[Violation]:
    """Say what is wrong with a schema and an example that are sound in shape."""
    schema = None
    if draft.schema is not None:
        try:
            schema = Schema.compile(draft.schema)
        except SchemaInvalid as error:
            yield Violation("event_type.schema", Reason.FIELD_INVALID, str(error))
    if draft.example is None:
        return
    if len(draft.example) > MAX_SCHEMA_BYTES:
        size = f"has {len(draft.example)} bytes as JSON, {MAX_SCHEMA_BYTES} at most"
        yield Violation("event_type.example", Reason.FIELD_INVALID, size)
    elif schema is not None:
        for problem in schema.problems(draft.example):
            path = f"event_type.example{problem.path}"
            description = f"does not satisfy the schema: {problem.description}"
            yield Violation(path, Reason.FIELD_INVALID, description)
