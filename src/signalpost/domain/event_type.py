"""Event types: those of the contract, and those that were registered."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from signalpost.domain.catalogue import FAMILIES
from signalpost.domain.version import etag_of

MAX_SCHEMA_BYTES: Final = 64 * 1024
"""Largest schema, and largest example, as canonical JSON."""

MAX_SCHEMA_LEVELS: Final = 32
"""Objects and lists within one another in a schema, the outermost included."""

MAX_EVENT_TYPES: Final = 5000
"""Most event types that may be registered: they are all held in memory."""

MAX_DESCRIPTION_LENGTH: Final = 1024

RESERVED_FAMILIES: Final = FAMILIES | {"event", "publish", "tenant"}
"""Families in which nothing can be registered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventType:
    """A kind of event, by its wire name.

    `schema` (JSON Schema, 2020-12) and `example` are canonical JSON, None if there is none.
    A `builtin` one has no times; `version` rises with every change.
    """

    name: str
    resource_type: str = ""
    description: str = ""
    schema: bytes | None = None
    example: bytes | None = None
    deprecated: bool = False
    builtin: bool = False
    create_time: datetime | None = None
    update_time: datetime | None = None
    version: int = 1

    @property
    def etag(self) -> str:
        """The version as callers see it."""
        return etag_of(self.create_time, self.version)


def name_problem(name: str) -> str | None:
    """Say why nothing can be registered under a wire name, None if it can."""
    family = name.partition(".")[0]
    if family in RESERVED_FAMILIES:
        return f'is of the family "{family}", which belongs to this contract'
    return None


def stamped(draft: EventType, *, now: datetime) -> EventType:
    """Return a new event type as it is registered at a time."""
    return replace(draft, builtin=False, create_time=now, update_time=now, version=1)
