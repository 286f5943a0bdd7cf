"""The event types of the installation, in memory: no event waits for storage to be judged.

It is loaded before the service starts and refreshed with every change; schemas are compiled
then and never while events are published.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from signalpost.domain.errors import NotFound
from signalpost.domain.event_type import EventType
from signalpost.ports import EventTypeStore, Page, PageRequest
from signalpost.publishing.schemas import Problem, Schema, SchemaInvalid

_LOAD_SIZE: Final = 500
_OVERHEAD_BYTES: Final = 256


@dataclass(frozen=True, slots=True)
class _Entry:
    event_type: EventType
    schema: Schema | None = None


class Catalogue:
    """Knows every event type. `builtins` are those of the contract, by wire name."""

    def __init__(self, store: EventTypeStore, *, builtins: Mapping[str, EventType]) -> None:
        self._store = store
        self._entries = {name: _Entry(event_type) for name, event_type in builtins.items()}

    async def load(self) -> None:
        """Read all registered types. Raises SchemaInvalid, with a name, and StorageUnavailable."""
        page = PageRequest(size=_LOAD_SIZE)
        while True:
            found = await self._store.list_event_types(page)
            for event_type in found.items:
                self._load(event_type)
            if found.next_after is None:
                return
            page = PageRequest(size=_LOAD_SIZE, after=found.next_after)

    def _load(self, event_type: EventType) -> None:
        try:
            self._enter(event_type)
        except SchemaInvalid as error:
            problem = f'event type "{event_type.name}" has a schema that cannot be used: {error}'
            raise SchemaInvalid(problem) from None

    async def refresh(self, name: str) -> None:
        """Read a registered type anew. Raises StorageUnavailable."""
        try:
            self._enter(await self._store.get_event_type(name))
        except NotFound:
            self._entries.pop(name, None)

    def _enter(self, event_type: EventType) -> None:
        schema = None if event_type.schema is None else Schema.compile(event_type.schema)
        self._entries[event_type.name] = _Entry(event_type, schema)

    @property
    def registered_count(self) -> int:
        """How many types there are that are not of the contract."""
        return sum(not entry.event_type.builtin for entry in self._entries.values())

    def __contains__(self, name: object) -> bool:
        """Tell whether there is a type of this wire name."""
        return name in self._entries

    def find(self, name: str) -> EventType | None:
        """Return the type of a wire name, None if there is none."""
        entry = self._entries.get(name)
        return None if entry is None else entry.event_type

    def get(self, name: str) -> EventType:
        """Return the type of a wire name. Raises NotFound."""
        found = self.find(name)
        if found is None:
            raise NotFound("event_type", name)
        return found

    def page(self, request: PageRequest) -> Page[EventType]:
        """Return types by name."""
        names = sorted(self._entries)
        start = 0 if request.after is None else bisect_right(names, request.after)
        items: list[EventType] = []
        weight = 0
        for name in names[start:]:
            event_type = self._entries[name].event_type
            weight += _weight(event_type)
            if len(items) >= request.size or (items and weight > request.max_bytes):
                return Page(items, items[-1].name)
            items.append(event_type)
        return Page(items, None)

    def problems(self, name: str, payload: bytes) -> Iterator[Problem]:
        """Say what the schema of a type has against a payload, canonical JSON."""
        entry = self._entries.get(name)
        if entry is not None and entry.schema is not None:
            yield from entry.schema.problems(payload)


def _weight(event_type: EventType) -> int:
    return (
        _OVERHEAD_BYTES
        + len(event_type.description)
        + len(event_type.schema or b"")
        + len(event_type.example or b"")
    )
