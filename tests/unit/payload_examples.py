"""An example of every built-in event type: with what is required alone, and with everything."""

from google.protobuf.json_format import ParseDict

from signalpost.v1.event_pb2 import Event

ACTOR = {"kind": "USER", "id": "usr_1"}

MINIMAL: dict[str, dict[str, object]] = {
    "integration_added": {"integration": "gmail"},
    "integration_enabled": {"integration": "gmail"},
    "integration_disabled": {"integration": "gmail"},
    "integration_config_updated": {"integration": "gmail", "changed_fields": ["scopes"]},
    "account_connected": {"integration": "gmail"},
    "account_authorization_changed": {"integration": "gmail", "current": "REVOKED"},
    "account_disconnected": {"integration": "gmail"},
    "tool_list_changed": {"integration": "gmail"},
    "tool_permission_changed": {"integration": "gmail"},
    "tool_metadata_changed": {"integration": "gmail", "changed_fields": ["description"]},
    "usage_quota_alert": {"metric": "tool_calls", "level": "RESOLVED", "used": 0, "limit": 1000},
    "anomaly_alert": {"kind": "error_rate", "severity": "LOW"},
    "subscription_suspended": {"reason": "ENDPOINT_GONE"},
    "webhook_test": {},
}

FULL: dict[str, dict[str, object]] = {
    "integration_added": {
        "integration": "gmail",
        "display_name": "Gmail",
        "version": "2.1.0",
        "auth_scheme": "OAUTH2",
        "actor": ACTOR,
    },
    "integration_enabled": {"integration": "gmail", "actor": {"kind": "SYSTEM", "id": "nightly"}},
    "integration_disabled": {
        "integration": "gmail",
        "reason": "BILLING",
        "message": "The bill of March is unpaid.",
        "actor": {"kind": "SERVICE", "id": "billing"},
    },
    "integration_config_updated": {
        "integration": "gmail",
        "changed_fields": ["oauth.scopes", "poll.seconds"],
        "previous": {"poll": {"seconds": 60, "jitter": 0.5}, "oauth": {"scopes": []}},
        "current": {"poll": {"seconds": 42}, "oauth": {"scopes": ["read", None, True, "ü"]}},
        "actor": ACTOR,
    },
    "account_connected": {
        "integration": "gmail",
        "user_id": "usr_7",
        "auth_scheme": "OAUTH2",
        "scopes": ["mail.read", "mail.send"],
        "expire_time": "2027-01-01T00:00:00Z",
        "actor": ACTOR,
    },
    "account_authorization_changed": {
        "integration": "gmail",
        "user_id": "usr_7",
        "previous": "ACTIVE",
        "current": "INSUFFICIENT",
        "scopes": ["mail.read"],
        "added_scopes": ["mail.read"],
        "removed_scopes": ["mail.send"],
        "expire_time": "2027-01-01T00:00:00.250Z",
        "message": 'The user said "no".',
        "actor": ACTOR,
    },
    "account_disconnected": {
        "integration": "gmail",
        "user_id": "usr_7",
        "reason": "INTEGRATION_DISABLED",
        "message": "Gmail is off.",
        "actor": ACTOR,
    },
    "tool_list_changed": {
        "integration": "gmail",
        "added": ["search"],
        "removed": ["find", "grep"],
        "tool_count": 0,
        "version": "2.2.0",
        "actor": ACTOR,
    },
    "tool_permission_changed": {
        "integration": "gmail",
        "previous": "ALLOWED",
        "current": "APPROVAL_REQUIRED",
        "added_scopes": ["mail.send"],
        "removed_scopes": ["mail.read"],
        "actor": ACTOR,
    },
    "tool_metadata_changed": {
        "integration": "gmail",
        "changed_fields": ["input_schema"],
        "previous": {"input_schema": {"type": "object", "required": ["q"]}},
        "current": {"input_schema": {"type": "object", "maxProperties": 9007199254740992}},
        "breaking": False,
        "version": "7",
        "actor": ACTOR,
    },
    "usage_quota_alert": {
        "metric": "tool_calls",
        "level": "WARNING",
        "used": 801.5,
        "limit": 1000,
        "threshold": 0.8,
        "window_start_time": "2026-03-01T00:00:00Z",
        "window_end_time": "2026-03-31T23:59:59.999999999Z",
    },
    "anomaly_alert": {
        "kind": "traffic_spike",
        "severity": "CRITICAL",
        "state": "OPEN",
        "summary": "Ten times the calls of an hour ago.",
        "metric": "tool_calls.per_minute",
        "observed": 1e21,
        "expected": -12.25,
        "start_time": "2026-03-05T06:07:08.000009Z",
        "end_time": "2026-03-05T07:00:00Z",
        "details": {"tools": ["search", "send"], "by": {"z": 1, "a": 2}, "note": ""},
    },
    "subscription_suspended": {
        "reason": "ENDPOINT_FAILING",
        "message": "Nothing was taken for five days.",
        "pending_count": 12,
    },
    "webhook_test": {"subscription_id": "crm", "message": "It works."},
}


def example(member: str, payload: dict[str, object]) -> Event:
    """Make an event as a publisher sends it."""
    event = ParseDict({member: payload}, Event())
    event.event_id = "evt_1"
    event.timestamp.FromJsonString("2026-03-05T06:07:08.900Z")
    event.resource.id = "res_42"
    return event
