"""Choosing events."""

from __future__ import annotations

from dataclasses import dataclass

from signalpost.domain.event import Resource

MAX_VALUES = 100
"""Most values in one field of a filter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter:
    """Which events to choose: empty fields choose all, several fields must all match.

    `event_types` holds wire names, or families such as "account.*".
    """

    event_types: frozenset[str] = frozenset()
    resource_types: frozenset[str] = frozenset()
    resource_ids: frozenset[str] = frozenset()

    def matches(self, event_type: str, resource: Resource) -> bool:
        """Tell whether an event of this type about this resource is chosen."""
        return (
            self._chooses_type(event_type)
            and (not self.resource_types or resource.type in self.resource_types)
            and (not self.resource_ids or resource.id in self.resource_ids)
        )

    def _chooses_type(self, event_type: str) -> bool:
        return (
            not self.event_types
            or event_type in self.event_types
            or event_type.partition(".")[0] + ".*" in self.event_types
        )
