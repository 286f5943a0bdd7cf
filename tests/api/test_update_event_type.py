"""UpdateEventType: what a mask changes, and what nothing may change."""

import asyncio
from datetime import timedelta

import grpc
import pytest

from signalpost.domain.version import etag_of
from signalpost.v1.event_type_service_pb2 import (
    EventType,
)
from tests.api.event_types import (
    EXAMPLE,
    INVALID,
    NAME,
    SCHEMA,
    create,
    full,
    get,
    struct,
    update,
)
from tests.api.service import START, Service, failure_of


@pytest.mark.parametrize("field", full())
@pytest.mark.parametrize("masked", [True, False])
async def test_update_changes_one_field_alone(
    service: Service, field: str, *, masked: bool
) -> None:
    made = await create(service)
    service.clock.move(timedelta(hours=1))
    changed = await update(service, *([field] if masked else []), **{field: full()[field]})
    expected = EventType()
    expected.CopyFrom(made)
    expected.MergeFrom(EventType(**{field: full()[field]}))
    expected.etag = etag_of(START, 2)
    expected.update_time.FromDatetime(START + timedelta(hours=1))
    assert changed == expected == await get(service)


@pytest.mark.parametrize("field", full())
async def test_update_clears_a_field_that_the_mask_names(service: Service, field: str) -> None:
    await create(service, **full())
    changed = await update(service, field)
    assert field not in {one.name for one, _ in changed.ListFields()}
    assert (changed.etag, await get(service)) == (etag_of(START, 2), changed)


async def test_update_of_all_fields_clears_what_is_unset(service: Service) -> None:
    await create(service, **full())
    changed = await update(service, "*", description="only this")
    set_fields = {one.name for one, _ in changed.ListFields()}
    assert set_fields == {"name", "description", "create_time", "update_time", "etag"}


async def test_update_that_changes_nothing_stores_nothing(service: Service) -> None:
    made = await create(service, **full())
    service.clock.move(timedelta(hours=1))
    assert await update(service, **full()) == made
    assert await update(service, "builtin", "create_time", "etag", "name", builtin=True) == made
    assert await get(service) == made


async def test_update_refuses_every_path_that_is_none(service: Service) -> None:
    made = await create(service)
    masked = ("description", "nope", "name.x")
    failure = await failure_of(update(service, *masked, description="d", resource_type="X"))
    paths = {f"update_mask.paths[{at}]": "FIELD_INVALID" for at in (1, 2)}
    paths["event_type.resource_type"] = "FIELD_INVALID"
    assert (failure.code, failure.violations) == (INVALID, paths)
    assert await get(service) == made


async def test_update_is_refused_where_the_result_would_not_be_sound(service: Service) -> None:
    made = await create(service, schema=SCHEMA, example=EXAMPLE)
    failure = await failure_of(update(service, schema=struct(required=["total"])))
    assert failure.violations == {"event_type.example": "FIELD_INVALID"}
    failure = await failure_of(update(service, schema=struct(pattern="(")))
    assert failure.violations == {"event_type.schema": "FIELD_INVALID"}
    assert await get(service) == made


async def test_update_validated_alone_changes_nothing(service: Service) -> None:
    made = await create(service)
    shown = await update(service, description="new", validate_only=True)
    assert shown.description == "new"
    assert await get(service) == made


async def test_update_with_a_stale_etag_is_aborted(service: Service) -> None:
    made = await create(service)
    changed = await update(service, description="first", etag=made.etag)
    for validate_only in (True, False):
        late = update(service, description="late", etag=made.etag, validate_only=validate_only)
        failure = await failure_of(late)
        assert failure.code is grpc.StatusCode.ABORTED
        assert (failure.reason, failure.resource) == ("ETAG_MISMATCH", ("event_type", NAME))
    assert await get(service) == changed


async def test_of_updates_of_one_version_exactly_one_wins(service: Service) -> None:
    made = await create(service)
    tries = [update(service, description=str(at), etag=made.etag) for at in range(9)]
    results = await asyncio.gather(*tries, return_exceptions=True)
    [changed] = [one for one in results if isinstance(one, EventType)]
    assert (changed.etag, await get(service)) == (etag_of(START, 2), changed)


async def test_updates_without_an_etag_do_not_undo_one_another(service: Service) -> None:
    await create(service)
    fields = list(full().items())
    await asyncio.gather(*[update(service, name, **{name: value}) for name, value in fields])
    changed = await get(service)
    assert changed.etag == etag_of(START, 1 + len(fields))
    assert changed.schema == SCHEMA
    assert changed.deprecated
