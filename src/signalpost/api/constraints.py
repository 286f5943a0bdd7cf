"""The constraints of the contract, field by field.

A message or field without an entry is bound only by what holds for all of them (`checks`).
Output only fields have none, or only a bound: what a request says there is ignored. Endpoints
and headers are judged where subscriptions are registered.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from signalpost.api.rules import (
    Relation,
    Rule,
    after,
    at_least,
    cidr,
    duration,
    length,
    number,
    readable,
    text,
)
from signalpost.domain.errors import Reason
from signalpost.domain.event import MAX_EVENTS
from signalpost.domain.event_type import MAX_DESCRIPTION_LENGTH, MAX_SCHEMA_LEVELS
from signalpost.domain.filter import MAX_VALUES
from signalpost.domain.signature import parse_secret
from signalpost.domain.statistics import BUCKET, KEPT
from signalpost.domain.subscription import (
    MAX_CONCURRENCY,
    MAX_OVERLAP,
    MAX_RATE,
    MAX_TIMEOUT,
    MIN_RATE,
)

MAX_PAGE_SIZE = 1000
MAX_IP_RANGES = 100
MAX_STATES = 100
MAX_PATHS = 100
MAX_SHOWN_KEYS = 100

_TENANT = text(
    r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
    "1 to 63 characters of [A-Za-z0-9_.-], beginning with a letter or a digit",
)
_TENANT_OR_ALL = text(
    r"-|[A-Za-z0-9][A-Za-z0-9_.-]{0,62}",
    '1 to 63 characters of [A-Za-z0-9_.-], beginning with a letter or a digit, or "-" for all',
)
_EVENT_ID = text(r"[A-Za-z0-9_-]{1,64}", "1 to 64 characters of [A-Za-z0-9_-]")
_SUBSCRIPTION_ID = text(
    r"[a-z][a-z0-9-]{0,62}", "1 to 63 characters of [a-z0-9-], beginning with a letter"
)
_WIRE_NAME_PATTERN = r"(?=.{1,128}$)[a-z][a-z0-9]*(\.[a-z][a-z0-9_]*)+"
WIRE_NAME = text(_WIRE_NAME_PATTERN, 'a wire name such as "account.connected"')
CHOSEN_TYPE = text(
    rf"{_WIRE_NAME_PATTERN}|[a-z][a-z0-9]{{0,125}}\.\*",
    'a wire name such as "account.connected" or a family such as "account.*"',
)
_RESOURCE_TYPE = text(
    r"[a-z][a-z0-9_]{0,62}", "1 to 63 characters of [a-z0-9_], beginning with a letter"
)
_RESOURCE_ID = text(
    r"[^\x00-\x1f\x7f-\x9f]{1,256}", "1 to 256 characters, no control characters among them"
)
_UUID = text(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", "a UUID")
TRACEPARENT = text(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}",
    "a traceparent of W3C Trace Context",
)
"""Trace Context, section 3.2: nothing but a sound one is passed on."""

_REQUIRED = Rule(required=True)

_ONE_EVENT = {"event_id": Rule(required=True, check=_EVENT_ID), "tenant_id": Rule(check=_TENANT)}
_ONE_SUBSCRIPTION = {
    "subscription_id": Rule(required=True, check=_SUBSCRIPTION_ID),
    "tenant_id": Rule(check=_TENANT),
}
_TOKEN = Rule(check=length(most=4096))
_STATES = Rule(most=MAX_STATES)
_PAGE = {
    "page_size": Rule(check=number(0, MAX_PAGE_SIZE)),
    "page_token": _TOKEN,
}
_LIST = {**_PAGE, "tenant_id": Rule(check=_TENANT_OR_ALL)}
_ONE_EVENT_TYPE = {"name": Rule(required=True, check=WIRE_NAME)}
_OF_INTEGRATION = {"integration": _REQUIRED}

CONSTRAINTS: Final[Mapping[str, Mapping[str, Rule]]] = {
    # Requests.
    "PublishRequest": {"events": Rule(required=True, most=MAX_EVENTS)},
    "PublishStreamRequest": {"events": Rule(required=True, most=MAX_EVENTS, apart=True)},
    "GetEventRequest": _ONE_EVENT,
    "ListEventsRequest": _LIST,
    "WatchEventsRequest": {"tenant_id": Rule(check=_TENANT_OR_ALL), "cursor": _TOKEN},
    "CreateSubscriptionRequest": {
        "subscription": _REQUIRED,
        "secret": Rule(check=readable(parse_secret)),
    },
    "GetSubscriptionRequest": _ONE_SUBSCRIPTION,
    "ListSubscriptionsRequest": {
        **_LIST,
        "event_type_name": Rule(check=WIRE_NAME),
        "states": _STATES,
    },
    "UpdateSubscriptionRequest": {"subscription": _REQUIRED},
    "DeleteSubscriptionRequest": _ONE_SUBSCRIPTION,
    "PauseSubscriptionRequest": _ONE_SUBSCRIPTION,
    "ResumeSubscriptionRequest": _ONE_SUBSCRIPTION,
    "TestSubscriptionRequest": {
        **_ONE_SUBSCRIPTION,
        "event_type_name": Rule(check=WIRE_NAME),
    },
    "RotateSubscriptionSecretRequest": {
        **_ONE_SUBSCRIPTION,
        "overlap": Rule(check=duration(timedelta(0), MAX_OVERLAP, wants="0 to 7 days")),
        "secret": Rule(check=readable(parse_secret)),
    },
    "GetDeliveryRequest": {"delivery_id": Rule(required=True, check=length(most=64))},
    "ListDeliveriesRequest": {
        **_LIST,
        "subscription_id": Rule(check=_SUBSCRIPTION_ID),
        "event_id": Rule(check=_EVENT_ID),
        "states": _STATES,
    },
    "RetryDeliveryRequest": {"delivery_id": Rule(required=True, check=length(most=64))},
    "ReplayDeliveriesRequest": {
        **_ONE_SUBSCRIPTION,
        "start_time": _REQUIRED,
        "request_id": Rule(check=_UUID),
    },
    "CancelDeliveriesRequest": _ONE_SUBSCRIPTION,
    "GetDeliveryStatsRequest": {
        "tenant_id": Rule(check=_TENANT_OR_ALL),
        "subscription_id": Rule(check=_SUBSCRIPTION_ID),
        "period": Rule(check=duration(BUCKET, KEPT, wants="5 minutes to 30 days")),
    },
    "WatchDeliveriesRequest": {
        "tenant_id": Rule(check=_TENANT_OR_ALL),
        "subscription_id": Rule(check=_SUBSCRIPTION_ID),
        "states": _STATES,
    },
    "CreateEventTypeRequest": {"event_type": _REQUIRED},
    "GetEventTypeRequest": _ONE_EVENT_TYPE,
    "ListEventTypesRequest": _PAGE,
    "UpdateEventTypeRequest": {"event_type": _REQUIRED},
    "DeleteEventTypeRequest": _ONE_EVENT_TYPE,
    "FieldMask": {"paths": Rule(most=MAX_PATHS)},
    # Events.
    "Event": {
        "event_id": Rule(check=_EVENT_ID),
        "event_type": Rule(unknown=Reason.EVENT_TYPE_UNKNOWN),
        "resource": _REQUIRED,
        "tenant_id": Rule(check=_TENANT),
        "traceparent": Rule(check=TRACEPARENT),
        "payload": _REQUIRED,
    },
    "Resource": {
        "type": Rule(check=_RESOURCE_TYPE),
        "id": Rule(required=True, check=_RESOURCE_ID),
    },
    "EventFilter": {
        "event_types": Rule(most=MAX_VALUES, check=CHOSEN_TYPE),
        "resource_types": Rule(most=MAX_VALUES, check=_RESOURCE_TYPE),
        "resource_ids": Rule(most=MAX_VALUES, check=_RESOURCE_ID),
    },
    # Payloads.
    "IntegrationAdded": _OF_INTEGRATION,
    "IntegrationEnabled": _OF_INTEGRATION,
    "IntegrationDisabled": _OF_INTEGRATION,
    "IntegrationConfigUpdated": {**_OF_INTEGRATION, "changed_fields": _REQUIRED},
    "AccountConnected": _OF_INTEGRATION,
    "AccountAuthorizationChanged": {**_OF_INTEGRATION, "current": _REQUIRED},
    "AccountDisconnected": _OF_INTEGRATION,
    "ToolListChanged": _OF_INTEGRATION,
    "ToolPermissionChanged": _OF_INTEGRATION,
    "ToolMetadataChanged": {**_OF_INTEGRATION, "changed_fields": _REQUIRED},
    "UsageQuotaAlert": dict.fromkeys(("metric", "level", "used", "limit"), _REQUIRED),
    "AnomalyAlert": dict.fromkeys(("kind", "severity"), _REQUIRED),
    "SubscriptionSuspended": {"reason": _REQUIRED},
    "Custom": {"name": Rule(required=True, check=WIRE_NAME)},
    # Event types.
    "EventType": {
        **_ONE_EVENT_TYPE,
        "resource_type": Rule(check=_RESOURCE_TYPE),
        "description": Rule(check=length(most=MAX_DESCRIPTION_LENGTH)),
        "schema": Rule(levels=MAX_SCHEMA_LEVELS),
    },
    # Subscriptions.
    "Subscription": {
        "subscription_id": Rule(check=_SUBSCRIPTION_ID),
        "tenant_id": Rule(check=_TENANT),
        "display_name": Rule(check=length(most=63)),
        "timeout": Rule(check=duration(timedelta(seconds=1), MAX_TIMEOUT, wants="1 to 30 seconds")),
        "allowed_ip_ranges": Rule(most=MAX_IP_RANGES, check=cidr),
        "signing_keys": Rule(most=MAX_SHOWN_KEYS),
        "labels": Rule(most=64, key=length(least=1, most=63), check=length(most=255)),
    },
    "RetryPolicy": {
        "max_attempts": Rule(check=number(1, 50)),
        "max_retry_duration": Rule(
            check=duration(timedelta(minutes=1), timedelta(days=30), wants="1 minute to 30 days")
        ),
        "min_backoff": Rule(
            check=duration(timedelta(seconds=1), timedelta(hours=1), wants="1 second to 1 hour")
        ),
        "max_backoff": Rule(
            check=duration(timedelta(seconds=1), timedelta(hours=24), wants="1 second to 24 hours")
        ),
        "backoff_multiplier": Rule(check=number(1, 10)),
    },
    "RateLimits": {
        "max_attempts_per_second": Rule(check=number(MIN_RATE, MAX_RATE)),
        "max_concurrent_attempts": Rule(check=number(1, MAX_CONCURRENCY)),
    },
}

_PERIOD = after("start_time", "end_time")

RELATIONS: Final[Mapping[str, Relation]] = {
    "ListEventsRequest": _PERIOD,
    "ListDeliveriesRequest": _PERIOD,
    "ReplayDeliveriesRequest": _PERIOD,
    "RetryPolicy": at_least("min_backoff", "max_backoff"),
}
"""What holds between two fields of a message."""
