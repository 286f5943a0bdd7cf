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

DESCRIPTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "integration.added": "An integration became available to a tenant.",
        "integration.enabled": "An integration was switched on.",
        "integration.disabled": "An integration was switched off.",
        "integration.config_updated": "The configuration of an integration changed.",
        "account.connected": "A user connected an account.",
        "account.authorization_changed": "The authorization of a connected account changed.",
        "account.disconnected": "An account is no longer connected.",
        "tool.list_changed": "The set of tools of an integration changed.",
        "tool.permission_changed": "What a tool may do, or the scopes it needs, changed.",
        "tool.metadata_changed": "The description or the schema of a tool changed.",
        "usage.quota_alert": "Usage crossed a threshold of its quota.",
        "anomaly.alert": "Something unusual was detected, or is over.",
        "subscription.suspended": "This service suspended a subscription.",
        "webhook.test": "`SubscriptionService.TestSubscription` was called.",
    }
)
"""Built-in types, each with what happened when there is an event of it."""

RESERVED: Final = frozenset({"subscription.suspended", "webhook.test"})
"""Built-in types that only this service publishes."""

FAMILIES: Final = frozenset(name.partition(".")[0] for name in RESOURCE_TYPES)
"""The words before the first dot of the built-in types."""
