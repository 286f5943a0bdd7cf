"""An event of each built-in type, from a day in the life of a tenant."""

from __future__ import annotations

from datetime import datetime, timedelta

from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from signalpost.v1 import event_pb2 as events
from signalpost.v1 import payloads_pb2 as payloads

_ADMIN = payloads.Actor(kind=payloads.Actor.USER, id="user_ada")
_GMAIL = "gmail"
_READ, _SEND = "gmail.readonly", "gmail.send"


def examples(now: datetime) -> list[events.Event]:
    """Return one event of each type that publishers send, in an order in which they might happen.

    The last of them happened just before `now`.
    """
    return [*_of_integrations(), *_of_accounts(now), *_of_tools(), *_of_alerts(now)]


def example(event_type: str, *, now: datetime) -> events.Event | None:
    """Return an event of the built-in type with this wire name, None if there is no such type."""
    member = event_type.replace(".", "_", 1)
    for one in [*examples(now), *_of_this_service()]:
        if one.WhichOneof("payload") == member:
            return one
    return None


def _of_this_service() -> list[events.Event]:
    resource = events.Resource(id="sub-example")
    return [
        events.Event(
            resource=resource,
            subscription_suspended=payloads.SubscriptionSuspended(
                reason=payloads.SubscriptionSuspended.ENDPOINT_GONE,
                message="The endpoint answered 410 Gone.",
                pending_count=12,
            ),
        ),
        events.Event(
            resource=resource,
            webhook_test=payloads.WebhookTest(
                subscription_id="sub-example", message="This is a test."
            ),
        ),
    ]


def _of_integrations() -> list[events.Event]:
    resource = events.Resource(id="int_gmail")
    return [
        events.Event(
            resource=resource,
            integration_added=payloads.IntegrationAdded(
                integration=_GMAIL,
                display_name="Gmail",
                version="2.4.0",
                auth_scheme="OAUTH2",
                actor=_ADMIN,
            ),
        ),
        events.Event(
            resource=resource,
            integration_enabled=payloads.IntegrationEnabled(integration=_GMAIL, actor=_ADMIN),
        ),
        events.Event(
            resource=resource,
            integration_config_updated=payloads.IntegrationConfigUpdated(
                integration=_GMAIL,
                changed_fields=["sync.interval_minutes", "sync.labels"],
                previous=_struct({"sync": {"interval_minutes": 15, "labels": ["inbox"]}}),
                current=_struct({"sync": {"interval_minutes": 5, "labels": ["inbox", "vip"]}}),
                actor=_ADMIN,
            ),
        ),
        events.Event(
            resource=events.Resource(id="int_fax"),
            integration_disabled=payloads.IntegrationDisabled(
                integration="fax",
                reason=payloads.IntegrationDisabled.PROVIDER,
                message="The provider ended the service.",
            ),
        ),
    ]


def _of_accounts(now: datetime) -> list[events.Event]:
    resource = events.Resource(id="acc_42")
    return [
        events.Event(
            resource=resource,
            account_connected=payloads.AccountConnected(
                integration=_GMAIL,
                user_id="user_grace",
                auth_scheme="OAUTH2",
                scopes=[_READ],
                expire_time=_time(now + timedelta(days=90)),
            ),
        ),
        events.Event(
            resource=resource,
            account_authorization_changed=payloads.AccountAuthorizationChanged(
                integration=_GMAIL,
                user_id="user_grace",
                previous=payloads.AccountAuthorizationChanged.ACTIVE,
                current=payloads.AccountAuthorizationChanged.INSUFFICIENT,
                scopes=[_READ],
                removed_scopes=[_SEND],
                message="The user withdrew a permission.",
            ),
        ),
        events.Event(
            resource=events.Resource(id="acc_7"),
            account_disconnected=payloads.AccountDisconnected(
                integration="fax",
                user_id="user_alan",
                reason=payloads.AccountDisconnected.INTEGRATION_DISABLED,
            ),
        ),
    ]


def _of_tools() -> list[events.Event]:
    return [
        events.Event(
            resource=events.Resource(id="int_gmail"),
            tool_list_changed=payloads.ToolListChanged(
                integration=_GMAIL,
                added=["gmail_snooze"],
                removed=["gmail_fetch_all"],
                tool_count=23,
                version="2.4.0",
            ),
        ),
        events.Event(
            resource=events.Resource(id="gmail_send_email"),
            tool_permission_changed=payloads.ToolPermissionChanged(
                integration=_GMAIL,
                previous=payloads.ToolPermissionChanged.ALLOWED,
                current=payloads.ToolPermissionChanged.APPROVAL_REQUIRED,
                added_scopes=[_SEND],
                actor=_ADMIN,
            ),
        ),
        events.Event(
            resource=events.Resource(id="gmail_search"),
            tool_metadata_changed=payloads.ToolMetadataChanged(
                integration=_GMAIL,
                changed_fields=["description"],
                previous=_struct({"description": "Searches mail"}),
                current=_struct({"description": "Searches mail and attachments – fast"}),
                breaking=False,
                version="2.4.0",
            ),
        ),
    ]


def _of_alerts(now: datetime) -> list[events.Event]:
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return [
        events.Event(
            resource=events.Resource(id="quota_tool_calls"),
            usage_quota_alert=payloads.UsageQuotaAlert(
                metric="tool_calls",
                level=payloads.UsageQuotaAlert.WARNING,
                used=8012,
                limit=10000,
                threshold=0.8,
                window_start_time=_time(midnight),
                window_end_time=_time(midnight + timedelta(days=1)),
            ),
        ),
        events.Event(
            resource=events.Resource(id="acc_42"),
            anomaly_alert=payloads.AnomalyAlert(
                kind="error_rate",
                severity=payloads.AnomalyAlert.HIGH,
                state=payloads.AnomalyAlert.OPEN,
                summary="Every third call of a tool fails.",
                metric="tool_calls.error_ratio",
                observed=0.34,
                expected=0.01,
                start_time=_time(now - timedelta(minutes=10)),
                details=_struct({"tool": "gmail_search", "calls": 412, "failed": 140}),
            ),
        ),
    ]


def _struct(values: dict[str, object]) -> Struct:
    return ParseDict(values, Struct())


def _time(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
