"""The built-in event types, by wire name.

They repeat what `event.proto` says, so that the core needs no protobuf; a test compares
the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

RESOURCE_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "integration.added": "integration",
        "integration.enabled": "integration",
        "integration.disabled": "integration",
        "integration.config_updated": "integration",
        "account.connected": "account",
        "account.authorization_changed": "account",
        "account.disconnected": "account",
        "tool.list_changed": "integration",
        "tool.permission_changed": "tool",
        "tool.metadata_changed": "tool",
        "usage.quota_alert": "quota",
        "anomaly.alert": "account",
        "subscription.suspended": "subscription",
        "webhook.test": "subscription",
    }
)
"""Built-in types, each with the `resource.type` that is filled in where an event leaves it out."""

RESERVED: Final = frozenset({"subscription.suspended", "webhook.test"})
"""Built-in types that only this service publishes."""

FAMILIES: Final = frozenset(name.partition(".")[0] for name in RESOURCE_TYPES)
"""The words before the first dot of the built-in types."""
