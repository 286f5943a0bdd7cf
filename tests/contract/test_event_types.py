"""Keeping registered event types."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from signalpost.domain.errors import AlreadyExists, EtagMismatch, NotFound
from signalpost.domain.event_type import EventType
from signalpost.ports import PageRequest
from signalpost.store import Store
from tests.contract.material import NOW

LATER = NOW + timedelta(hours=1)
NAME = "billing.invoice_paid"


def event_type(name: str = NAME, **more: Any) -> EventType:
    return replace(EventType(name=name, create_time=NOW, update_time=NOW), **more)


def with_everything() -> EventType:
    return event_type(
        resource_type="invoice",
        description="Zoë paid.",
        schema=b'{"type":"object"}',
        example=b'{"a":"\xc3\xbc"}',
        deprecated=True,
    )


@pytest.mark.parametrize("made", [event_type(), with_everything()])
async def test_event_type_is_read_back_as_it_was_made(store: Store, made: EventType) -> None:
    assert await store.create_event_type(made) == made
    assert await store.get_event_type(NAME) == made


async def test_name_is_taken_until_it_is_deleted(store: Store) -> None:
    await store.create_event_type(event_type())
    with pytest.raises(AlreadyExists):
        await store.create_event_type(with_everything())
    assert (await store.get_event_type(NAME)).schema is None
    await store.delete_event_type(NAME, etag=None)
    await store.create_event_type(with_everything())
    assert (await store.get_event_type(NAME)).schema == b'{"type":"object"}'


async def test_missing_event_type_is_not_found(store: Store) -> None:
    await store.create_event_type(event_type("billing.other"))
    with pytest.raises(NotFound):
        await store.get_event_type(NAME)
    with pytest.raises(NotFound):
        await store.replace_event_type(event_type(), now=NOW)
    with pytest.raises(NotFound):
        await store.delete_event_type(NAME, etag=None)


async def test_change_raises_the_version(store: Store) -> None:
    await store.create_event_type(event_type())
    changed = await store.replace_event_type(with_everything(), now=LATER)
    assert changed == replace(with_everything(), version=2, update_time=LATER)
    assert await store.get_event_type(NAME) == changed


async def test_change_of_what_was_changed_meanwhile_is_refused(store: Store) -> None:
    made = await store.create_event_type(event_type())
    await store.replace_event_type(replace(made, description="first"), now=NOW)
    with pytest.raises(EtagMismatch):
        await store.replace_event_type(replace(made, description="second"), now=NOW)
    assert (await store.get_event_type(NAME)).description == "first"


async def test_deletion_heeds_the_etag(store: Store) -> None:
    made = await store.create_event_type(event_type())
    changed = await store.replace_event_type(made, now=NOW)
    with pytest.raises(EtagMismatch):
        await store.delete_event_type(NAME, etag=made.etag)
    assert await store.get_event_type(NAME) == changed
    await store.delete_event_type(NAME, etag=changed.etag)
    with pytest.raises(NotFound):
        await store.get_event_type(NAME)


async def test_list_goes_by_name_and_is_stable_while_it_grows(store: Store) -> None:
    for name in ("b.b", "a.c", "a.a", "b.a"):
        await store.create_event_type(event_type(name))
    seen: list[str] = []
    after: str | None = None
    for _ in range(4):
        page = await store.list_event_types(PageRequest(size=1, after=after))
        seen += [found.name for found in page.items]
        after = page.next_after
        if len(seen) == 2:
            await store.create_event_type(event_type("a.b"))
    assert seen == ["a.a", "a.c", "b.a", "b.b"]
    assert after is None


async def test_page_of_large_event_types_ends_early(store: Store) -> None:
    for name in ("a.a", "a.b", "a.c"):
        await store.create_event_type(event_type(name, schema=b"x" * 2000))
    page = await store.list_event_types(PageRequest(size=9, max_bytes=5000))
    assert ([found.name for found in page.items], page.next_after) == (["a.a", "a.b"], "a.b")
