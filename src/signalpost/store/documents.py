"""Parts of a subscription that are stored as JSON, for nothing searches in them."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_network

import orjson

from signalpost.domain.filter import EventFilter
from signalpost.domain.subscription import IpNetwork, RetryPolicy
from signalpost.store.units import (
    from_duration,
    from_optional_duration,
    to_duration,
    to_optional_duration,
)


def write_filter(chosen: EventFilter) -> str:
    """Write a filter as JSON."""
    return _dump(
        {
            "event_types": sorted(chosen.event_types),
            "resource_types": sorted(chosen.resource_types),
            "resource_ids": sorted(chosen.resource_ids),
        }
    )


def read_filter(text: str) -> EventFilter:
    """Read what `write_filter` wrote.

    Raises ValueError, TypeError or AttributeError for all else: it would choose other events.
    """
    stored = orjson.loads(text)
    return EventFilter(
        event_types=_texts(stored.get("event_types")),
        resource_types=_texts(stored.get("resource_types")),
        resource_ids=_texts(stored.get("resource_ids")),
    )


def write_policy(policy: RetryPolicy) -> str:
    """Write a retry policy as JSON, durations in microseconds."""
    return _dump(
        {
            "max_attempts": policy.max_attempts,
            "max_retry_duration": from_optional_duration(policy.max_retry_duration),
            "min_backoff": from_duration(policy.min_backoff),
            "max_backoff": from_duration(policy.max_backoff),
            "backoff_multiplier": policy.backoff_multiplier,
        }
    )


def read_policy(text: str) -> RetryPolicy:
    """Read what `write_policy` wrote."""
    stored = orjson.loads(text)
    return RetryPolicy(
        max_attempts=stored["max_attempts"],
        max_retry_duration=to_optional_duration(stored["max_retry_duration"]),
        min_backoff=to_duration(stored["min_backoff"]),
        max_backoff=to_duration(stored["max_backoff"]),
        backoff_multiplier=stored["backoff_multiplier"],
    )


def write_ranges(ranges: tuple[IpNetwork, ...]) -> str:
    """Write address ranges as a JSON array of CIDRs."""
    return _dump([str(network) for network in ranges])


def read_ranges(text: str) -> tuple[IpNetwork, ...]:
    """Read what `write_ranges` wrote."""
    return tuple(ip_network(network) for network in orjson.loads(text))


def write_texts(texts: Mapping[str, str]) -> str:
    """Write a map of texts, keeping its order."""
    return _dump(dict(texts))


def read_texts(text: str | bytes) -> dict[str, str]:
    """Read what `write_texts` wrote."""
    return {str(key): str(value) for key, value in orjson.loads(text).items()}


def _texts(values: object) -> frozenset[str]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError
    return frozenset(values)


def _dump(value: object) -> str:
    return orjson.dumps(value).decode()
