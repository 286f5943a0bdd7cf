import asyncio
import logging
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct

from signalpost.domain.catalogue import RESOURCE_TYPES
from signalpost.domain.event_type import EventType as StoredType
from signalpost.domain.version import etag_of
from signalpost.ports import PageRequest
from signalpost.publishing import event_types
from signalpost.publishing.schemas import SchemaInvalid
from signalpost.v1.event_type_service_pb2 import (
    CreateEventTypeRequest,
    DeleteEventTypeRequest,
    EventType,
    ListEventTypesRequest,
    UpdateEventTypeRequest,
)
from tests.api.event_types import (
    INVALID,
    NAME,
    PRECONDITION,
    SCHEMA,
    create,
    delete,
    full,
    get,
    names,
    struct,
    update,
)
from tests.api.service import START, Service, failure_of, running

# Create and Get.


async def test_event_type_is_shown_as_it_was_registered(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "signalpost.publishing"):
        made = await create(service, **full())
    expected = EventType(name=NAME, etag=etag_of(START, 1), **full())
    for time in (expected.create_time, expected.update_time):
        time.FromDatetime(START)
    assert made == expected == await get(service)
    assert [record.message for record in caplog.records] == ["event type registered"]


async def test_what_only_the_service_sets_is_ignored(service: Service) -> None:
    made = await create(service, builtin=True, etag="77")
    assert (made.builtin, made.HasField("schema")) == (False, False)
    assert made.etag == etag_of(START, 1)


async def test_registering_twice_is_told_and_changes_nothing(service: Service) -> None:
    made = await create(service, description="first")
    for validate_only in (True, False):
        again = create(service, description="second", validate_only=validate_only)
        failure = await failure_of(again)
        assert failure.code is grpc.StatusCode.ALREADY_EXISTS
        assert (failure.reason, failure.resource) == ("ALREADY_EXISTS", ("event_type", NAME))
    assert await get(service) == made


async def test_of_many_that_register_a_name_at_once_one_wins(service: Service) -> None:
    tries = [create(service, description=str(number)) for number in range(9)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    [made] = [one for one in results if isinstance(one, EventType)]
    assert await get(service) == made


async def test_validation_alone_registers_nothing(service: Service) -> None:
    shown = await create(service, validate_only=True, **full())
    assert shown.schema == SCHEMA
    assert NAME not in await names(service)
    assert (await failure_of(get(service))).code is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize(
    ("fields", "path"),
    [
        ({"name": ""}, "event_type.name"),
        ({"name": "nodot"}, "event_type.name"),
        ({"name": "Upper.case"}, "event_type.name"),
        ({"name": "a." + "b" * 127}, "event_type.name"),
        ({"name": "account.mine"}, "event_type.name"),
        ({"name": "account.connected"}, "event_type.name"),
        ({"name": "event.mine"}, "event_type.name"),
        ({"name": "publish.mine"}, "event_type.name"),
        ({"name": "tenant.mine"}, "event_type.name"),
        ({"resource_type": "Invoice"}, "event_type.resource_type"),
        ({"description": "x" * 1025}, "event_type.description"),
        ({"schema": struct(type="thing")}, "event_type.schema"),
        ({"schema": struct(pattern="(?=a)")}, "event_type.schema"),
        ({"schema": struct(**{"$ref": "file:///etc/passwd"})}, "event_type.schema"),
        ({"schema": struct(**{"$ref": "https://example.com/"})}, "event_type.schema"),
        ({"schema": struct(enum=["x" * 65_536])}, "event_type.schema"),
        ({"schema": SCHEMA, "example": struct(amount="1")}, 'event_type.example["amount"]'),
        ({"schema": SCHEMA, "example": struct()}, "event_type.example"),
        ({"example": struct(text="x" * 65_536)}, "event_type.example"),
        ({"example": struct(n=float("inf"))}, 'event_type.example["n"]'),
    ],
)
async def test_event_type_that_is_not_sound_is_refused(
    service: Service, fields: dict[str, Any], path: str
) -> None:
    failure = await failure_of(create(service, **fields))
    assert failure.code is INVALID
    assert failure.violations == {path: "FIELD_INVALID"}
    assert await names(service) == sorted(RESOURCE_TYPES)


async def test_schema_may_be_deeper_than_a_payload_and_not_without_end(service: Service) -> None:
    def nested(levels: int) -> Struct:
        value: dict[str, Any] = {}
        for _ in range(levels - 1):
            value = {"not": value}
        return struct(**value)

    await create(service, schema=nested(32))
    failure = await failure_of(create(service, name="billing.other", schema=nested(33)))
    path = "event_type.schema" + '["not"]' * 32
    assert failure.violations == {path: "FIELD_INVALID"}


async def test_everything_that_is_wrong_with_it_is_told_at_once(service: Service) -> None:
    failure = await failure_of(create(service, name="tenant.x", schema=struct(type=1)))
    assert set(failure.violations) == {"event_type.name", "event_type.schema"}
    wrong: dict[str, Any] = {"resource_type": "X", "schema": struct(type=1)}
    failure = await failure_of(create(service, name="no name", **wrong))
    paths = ("name", "resource_type", "schema")
    assert failure.violations == {f"event_type.{path}": "FIELD_INVALID" for path in paths}
    assert failure.message.endswith("(and 2 more)")


async def test_request_without_an_event_type_is_refused(service: Service) -> None:
    created = service.event_types.CreateEventType(CreateEventTypeRequest())
    assert (await failure_of(created)).violations == {"event_type": "FIELD_INVALID"}
    updated = service.event_types.UpdateEventType(UpdateEventTypeRequest())
    assert (await failure_of(updated)).violations == {"event_type": "FIELD_INVALID"}


@pytest.mark.parametrize("call", [get, delete, update])
async def test_missing_event_type_is_not_found(service: Service, call: Any) -> None:
    failure = await failure_of(call(service))
    assert failure.code is grpc.StatusCode.NOT_FOUND
    assert (failure.reason, failure.resource) == ("NOT_FOUND", ("event_type", NAME))


@pytest.mark.parametrize("name", ["", "Not a name"])
async def test_name_that_is_none_is_refused(service: Service, name: str) -> None:
    for call in (get, delete):
        assert (await failure_of(call(service, name))).violations == {"name": "FIELD_INVALID"}
    failure = await failure_of(update(service, name=name))
    assert failure.violations == {"event_type.name": "FIELD_INVALID"}


async def test_built_in_type_is_shown_with_an_example(service: Service) -> None:
    shown = await get(service, "account.connected")
    assert (shown.builtin, shown.resource_type, shown.etag) == (True, "account", "")
    assert shown.description == "A user connected an account."
    assert MessageToDict(shown.example)["integration"] == "gmail"
    assert not shown.HasField("create_time")
    assert not shown.HasField("schema")


@pytest.mark.parametrize("validate_only", [True, False])
async def test_built_in_type_cannot_be_changed(service: Service, *, validate_only: bool) -> None:
    name = "account.connected"
    changing = update(service, name=name, description="mine", validate_only=validate_only)
    for call in (changing, delete(service, name), delete(service, name, allow_missing=True)):
        failure = await failure_of(call)
        assert (failure.code, failure.reason) == (PRECONDITION, "EVENT_TYPE_BUILTIN")
        assert failure.details == ["ErrorInfo", "PreconditionFailure"]
    assert (await get(service, name)).description == "A user connected an account."


# List.


async def test_list_has_every_type_by_name_page_by_page(service: Service) -> None:
    own = ["a.a", NAME, "tooling.x", "zoo.z"]
    for name in own:
        await create(service, name=name)
    request, seen, pages = ListEventTypesRequest(page_size=4), [], 0
    while True:
        response = await service.event_types.ListEventTypes(request)
        seen += list(response.event_types)
        pages += 1
        if not response.next_page_token:
            break
        request.page_token = response.next_page_token
    assert [one.name for one in seen] == sorted([*own, *RESOURCE_TYPES])
    assert [one.name for one in seen if not one.builtin] == sorted(own)
    assert pages == 5


async def test_page_of_large_event_types_fits_into_a_message(service: Service) -> None:
    large = struct(text="x" * 60_000)
    for number in range(70):
        await create(service, name=f"a.n{number}", schema=struct(**{"$comment": "y" * 900}))
        await update(service, "example", name=f"a.n{number}", example=large)
    request = ListEventTypesRequest(page_size=1000)
    first = await service.event_types.ListEventTypes(request)
    assert 3_000_000 < first.ByteSize() < 4 * 1024 * 1024
    request.page_token = first.next_page_token
    second = await service.event_types.ListEventTypes(request)
    assert len(first.event_types) + len(second.event_types) == 70 + len(RESOURCE_TYPES)
    assert not second.next_page_token


# Delete.


async def test_deleted_event_type_is_gone_and_its_name_free(service: Service) -> None:
    await create(service, **full())
    await delete(service)
    assert (await failure_of(get(service))).reason == "NOT_FOUND"
    assert NAME not in await names(service)
    assert not (await create(service)).description


async def test_deletion_may_be_repeated_where_missing_is_allowed(service: Service) -> None:
    await create(service)
    await delete(service, allow_missing=True)
    await delete(service, allow_missing=True)
    assert (await failure_of(delete(service))).reason == "NOT_FOUND"


async def test_deletion_with_a_stale_etag_is_aborted(service: Service) -> None:
    made = await create(service)
    changed = await update(service, description="new")
    failure = await failure_of(delete(service, etag=made.etag, allow_missing=True))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert await get(service) == changed
    await delete(service, etag=changed.etag)
    assert NAME not in await names(service)


async def test_an_etag_of_a_deleted_type_does_not_match_one_of_the_same_name(
    service: Service,
) -> None:
    former = await create(service)
    await delete(service)
    service.clock.move(timedelta(microseconds=1))
    made = await create(service, description="new")
    for call in (
        delete(service, etag=former.etag),
        update(service, description="late", etag=former.etag),
    ):
        assert (await failure_of(call)).reason == "ETAG_MISMATCH"
    assert await get(service) == made


async def test_no_more_types_are_registered_than_there_may_be(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_types, "MAX_EVENT_TYPES", 2)
    for name in ("shop.first", "shop.second"):
        await service.register(name)
    for validate_only in (False, True):
        failure = await failure_of(create(service, validate_only=validate_only))
        assert (failure.code, failure.reason) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "QUOTA_EXCEEDED",
        )
        assert failure.details == ["ErrorInfo", "QuotaFailure"]
    assert (await failure_of(service.register("shop.first"))).reason == "ALREADY_EXISTS"
    await service.event_types.DeleteEventType(DeleteEventTypeRequest(name="shop.first"))
    await create(service)


# Over time.


async def test_event_types_outlive_the_server(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        made = await create(service, **full())
    async with running(tmp_path) as service:
        assert await get(service) == made


async def test_schema_that_cannot_be_used_any_more_is_told_at_the_start(tmp_path: Path) -> None:
    async with running(tmp_path) as service:
        stored = StoredType(name=NAME, schema=b'{"type":"x"}', create_time=START, update_time=START)
        await service.store.create_event_type(stored)
    with pytest.raises(SchemaInvalid, match=f'event type "{NAME}" has a schema .*: at #/type'):
        async with running(tmp_path):
            raise AssertionError("it serves")


async def test_call_that_was_cancelled_leaves_the_catalogue_as_storage_has_it(
    service: Service,
) -> None:
    call = service.event_types.CreateEventType(
        CreateEventTypeRequest(event_type=EventType(name=NAME))
    )
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    # Changes follow one another, so that this one comes after whatever became of that.
    await create(service, name="billing.later")
    stored = await service.store.list_event_types(PageRequest(size=9))
    listed = [one.name for one in stored.items]
    assert listed == [name for name in await names(service) if name not in RESOURCE_TYPES]
