"""Walks `ErrorReason`: each one is provoked through a real channel and keeps its comment."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final
from uuid import uuid4

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct
from sqlalchemy import Connection

from signalpost import failpoints
from signalpost.store.writer import one_by_one
from signalpost.v1.delivery_service_pb2 import (
    ListDeliveriesRequest,
    ReplayDeliveriesRequest,
    RetryDeliveryRequest,
)
from signalpost.v1.errors_pb2 import ErrorReason
from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_service_pb2 import (
    GetEventRequest,
    ListEventsRequest,
    PublishStreamRequest,
    WatchEventsRequest,
)
from signalpost.v1.event_type_service_pb2 import DeleteEventTypeRequest
from signalpost.v1.payloads_pb2 import AccountConnected, Custom, WebhookTest
from signalpost.v1.subscription_service_pb2 import (
    DeleteSubscriptionRequest,
    RotateSubscriptionSecretRequest,
)
from tests.api.service import Failure, Service, event, failure_of
from tests.api.watch import following
from tests.contract.material import prune

Provoke = Callable[[Service], Awaitable[Failure]]

INVALID = grpc.StatusCode.INVALID_ARGUMENT
EXISTS = grpc.StatusCode.ALREADY_EXISTS
EXHAUSTED = grpc.StatusCode.RESOURCE_EXHAUSTED
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE

AMOUNT_REQUIRED: Final = ParseDict({"required": ["amount"]}, Struct())

NOT_YET: Final = frozenset(
    {
        "RATE_LIMITED",
        "PERMISSION_DENIED",
    }
)
"""Nothing raises these yet. What begins to, moves into the table."""


@dataclass(frozen=True)
class Row:
    """What a reason comes with: its code, its details after `ErrorInfo`, keys of metadata."""

    provoke: Provoke
    code: grpc.StatusCode
    details: tuple[str, ...]
    metadata: frozenset[str] = frozenset()


def publishing(*events: Event) -> Provoke:
    async def provoke(service: Service) -> Failure:
        return await failure_of(service.publish(*events))

    return provoke


async def endpoint_that_does_not_agree(service: Service) -> Failure:
    return await failure_of(service.subscribe(require_handshake=True))


async def two_credentials(service: Service) -> Failure:
    metadata = [("authorization", "Bearer a"), ("authorization", "Bearer b")]
    stream = service.events.PublishStream(metadata=metadata)
    assert (await failure_of(stream.read())).reason == "CREDENTIALS_INVALID"
    return await failure_of(service.publish(event(), metadata=metadata))


async def token_of_another(service: Service) -> Failure:
    request = ListEventsRequest(page_token="made-up")
    return await failure_of(service.events.ListEvents(request))


async def endpoint_inside(service: Service) -> Failure:
    return await failure_of(service.subscribe(endpoint_uri="https://10.1.2.3/"))


async def event_that_is_not_there(service: Service) -> Failure:
    return await failure_of(service.events.GetEvent(GetEventRequest(event_id="e")))


async def same_name_twice(service: Service) -> Failure:
    await service.subscribe(subscription_id="s")
    return await failure_of(service.subscribe(subscription_id="s"))


async def other_content(service: Service) -> Failure:
    await service.publish(event(event_id="e"))
    return await failure_of(service.publish(event(event_id="e", resource=Resource(id="x"))))


async def stale_etag(service: Service) -> Failure:
    await service.subscribe(subscription_id="s")
    request = DeleteSubscriptionRequest(subscription_id="s", etag="0")
    return await failure_of(service.subscriptions.DeleteSubscription(request))


async def one_key_too_many(service: Service) -> Failure:
    await service.subscribe(subscription_id="s")
    request = RotateSubscriptionSecretRequest(subscription_id="s")
    for _ in range(4):
        await service.subscriptions.RotateSubscriptionSecret(request)
    return await failure_of(service.subscriptions.RotateSubscriptionSecret(request))


async def server_that_drains(service: Service) -> Failure:
    call = service.events.PublishStream()
    await call.write(PublishStreamRequest(events=[event()]))
    await call.read()
    draining = asyncio.create_task(service.server.drain(timedelta(seconds=60)))
    failure = await failure_of(call.read())
    await draining
    return failure


async def payload_against_its_schema(service: Service) -> Failure:
    await service.register("billing.paid", resource_type="invoice", schema=AMOUNT_REQUIRED)
    return await failure_of(service.publish(event(custom=Custom(name="billing.paid"))))


async def change_of_a_builtin_type(service: Service) -> Failure:
    request = DeleteEventTypeRequest(name="account.connected")
    return await failure_of(service.event_types.DeleteEventType(request))


async def other_request(service: Service) -> Failure:
    await service.subscribe(subscription_id="s")
    request = ReplayDeliveriesRequest(subscription_id="s", request_id=str(uuid4()))
    request.start_time.FromSeconds(1)
    await service.deliveries.ReplayDeliveries(request)
    request.start_time.FromSeconds(2)
    return await failure_of(service.deliveries.ReplayDeliveries(request))


async def retry_for_a_deleted_subscription(service: Service) -> Failure:
    await service.subscribe(subscription_id="s")
    await service.publish(event())
    found = await service.deliveries.ListDeliveries(ListDeliveriesRequest())
    deletion = DeleteSubscriptionRequest(subscription_id="s")
    await service.subscriptions.DeleteSubscription(deletion)
    request = RetryDeliveryRequest(delivery_id=found.deliveries[0].delivery_id)
    return await failure_of(service.deliveries.RetryDelivery(request))


async def cursor_before_what_was_pruned(service: Service) -> Failure:
    async with following(service) as follower:
        await service.publish(event())
    assert await prune(service.store, now=service.clock.now() + timedelta(days=8)) == 1
    return await failure_of(
        service.events.WatchEvents(WatchEventsRequest(cursor=follower.cursor)).read()
    )


async def closed_store(service: Service) -> Failure:
    await service.store.aclose()
    return await failure_of(service.publish(event()))


async def full_database(service: Service) -> Failure:
    def limit(conn: Connection, _: None) -> None:
        pages = conn.exec_driver_sql("PRAGMA page_count").scalar_one()
        conn.exec_driver_sql(f"PRAGMA max_page_count = {pages + 5}")

    await service.store._writer.submit(one_by_one(limit), None)
    big = AccountConnected(integration="g", user_id="u" * 100_000)
    return await failure_of(service.publish(event(account_connected=big)))


async def failure_of_ours(service: Service) -> Failure:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(failpoints._armed, "handler", "raise")
        return await failure_of(service.publish(event()))


TABLE: Final = {
    "FIELD_INVALID": Row(publishing(event(event_id="not ok")), INVALID, ("BadRequest",)),
    "EVENT_TYPE_MISMATCH": Row(
        publishing(event(event_type=Event.TOOL_LIST_CHANGED)), INVALID, ("BadRequest",)
    ),
    "EVENT_TYPE_UNKNOWN": Row(
        publishing(event(custom=Custom(name="billing.paid"))),
        INVALID,
        ("BadRequest",),
        frozenset({"eventType"}),
    ),
    "PAYLOAD_INVALID": Row(
        payload_against_its_schema, INVALID, ("BadRequest",), frozenset({"eventType"})
    ),
    "TOO_LARGE": Row(
        publishing(event(account_connected=AccountConnected(integration="g" * 300_000))),
        INVALID,
        ("BadRequest",),
        frozenset({"sizeBytes", "limitBytes"}),
    ),
    "PAGE_TOKEN_INVALID": Row(token_of_another, INVALID, ("BadRequest",)),
    "ENDPOINT_FORBIDDEN": Row(endpoint_inside, INVALID, ("BadRequest",)),
    "EVENT_TYPE_RESERVED": Row(
        publishing(event(webhook_test=WebhookTest())),
        INVALID,
        ("BadRequest",),
        frozenset({"eventType"}),
    ),
    "NOT_FOUND": Row(event_that_is_not_there, grpc.StatusCode.NOT_FOUND, ("ResourceInfo",)),
    "ALREADY_EXISTS": Row(same_name_twice, EXISTS, ("ResourceInfo",)),
    "EVENT_ID_CONFLICT": Row(other_content, EXISTS, ("ResourceInfo",)),
    "ETAG_MISMATCH": Row(stale_etag, grpc.StatusCode.ABORTED, ("ResourceInfo",)),
    "REQUEST_ID_CONFLICT": Row(other_request, EXISTS, ("ResourceInfo",)),
    "STATE_INVALID": Row(
        retry_for_a_deleted_subscription,
        grpc.StatusCode.FAILED_PRECONDITION,
        ("PreconditionFailure",),
        frozenset({"state"}),
    ),
    "EVENT_TYPE_BUILTIN": Row(
        change_of_a_builtin_type, grpc.StatusCode.FAILED_PRECONDITION, ("PreconditionFailure",)
    ),
    "ENDPOINT_UNVERIFIED": Row(
        endpoint_that_does_not_agree,
        grpc.StatusCode.FAILED_PRECONDITION,
        ("PreconditionFailure",),
        frozenset({"statusCode"}),
    ),
    "CURSOR_EXPIRED": Row(
        cursor_before_what_was_pruned,
        grpc.StatusCode.OUT_OF_RANGE,
        (),
        frozenset({"oldestCursor"}),
    ),
    "QUOTA_EXCEEDED": Row(one_key_too_many, EXHAUSTED, ("QuotaFailure",)),
    "OVERLOADED": Row(server_that_drains, UNAVAILABLE, ("RetryInfo",)),
    "STORAGE_UNAVAILABLE": Row(closed_store, UNAVAILABLE, ("RetryInfo",)),
    "STORAGE_FULL": Row(full_database, EXHAUSTED, ("RetryInfo",)),
    "CREDENTIALS_INVALID": Row(two_credentials, grpc.StatusCode.UNAUTHENTICATED, ()),
    "INTERNAL": Row(failure_of_ours, grpc.StatusCode.INTERNAL, (), frozenset({"errorId"})),
}

PROTO = Path(__file__).parents[2] / "proto/signalpost/v1/errors.proto"


@pytest.mark.parametrize("reason", TABLE)
async def test_reason_is_raised_with_the_details_it_promises(service: Service, reason: str) -> None:
    row = TABLE[reason]
    failure = await row.provoke(service)
    assert failure.reason == reason
    assert failure.code is row.code
    assert failure.details == ["ErrorInfo", *row.details]
    assert set(failure.metadata) == row.metadata
    if "BadRequest" in row.details:
        assert reason in failure.violations.values()


def test_every_reason_stands_in_the_table_or_waits() -> None:
    reasons = {*ErrorReason.DESCRIPTOR.values_by_name} - {"ERROR_REASON_UNSPECIFIED"}
    assert set(TABLE) | NOT_YET == reasons
    assert not set(TABLE) & NOT_YET


@pytest.mark.parametrize("reason", TABLE)
def test_comment_of_a_reason_says_what_the_table_says(reason: str) -> None:
    comment: list[str] = []
    for line in PROTO.read_text("utf-8").splitlines():
        text = line.strip()
        if text.startswith(f"{reason} ="):
            break
        comment = [*comment, text.removeprefix("//")] if text.startswith("//") else []
    said = " ".join(" ".join(comment).split())
    row = TABLE[reason]
    assert said.startswith(row.code.name)
    for named in (*row.details, *row.metadata):
        assert f"`{named}`" in said
    promised = {word for word in said.split("`")[1::2] if word[0].isupper()}
    assert promised == set(row.details)
