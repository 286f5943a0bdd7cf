"""The log of events: whoever reads it on from a position loses nothing and repeats nothing."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta

import pytest

from signalpost import failpoints
from signalpost.domain.event import Event
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import TenantId
from signalpost.ports import EventQuery, PageRequest
from signalpost.ports.watching import LogPosition, LogPruned, LogQuery
from signalpost.store import Store, event_log
from tests.contract.material import NOW, TENANT, event, prune, subscription

ALL = LogQuery(tenant_id=None)
ROOM = 1 << 20


async def beginning(store: Store) -> LogPosition:
    return await store.watching.log_from(datetime(2020, 1, 1, tzinfo=UTC))


async def read_on(
    store: Store, after: LogPosition, *, query: LogQuery = ALL, limit: int = 100
) -> tuple[list[str], LogPosition]:
    """Read to the end of the log; return the IDs of events and where the end is."""
    found: list[str] = []
    while True:
        page = await store.watching.read_log(query, after=after, limit=limit, max_bytes=ROOM)
        assert len(page.events) <= limit
        found += [one.event.event_id for one in page.events]
        after = page.position
        if not page.more:
            return found, after


async def newest_first(store: Store) -> list[str]:
    page = await store.list_events(EventQuery(tenant_id=None), PageRequest(size=1000))
    assert page.next_after is None
    return [found.event_id for found in page.items]


async def accept(store: Store, *event_ids: str, now: datetime = NOW, **fields: str) -> None:
    events = [event(one, publish_time=now, **fields) for one in event_ids]
    await store.accept(events, now=now)


async def reopened(store: Store, database_url: str) -> Store:
    await store.aclose()
    return await Store.open(database_url, master_key=b"m" * 32)


async def test_events_come_whole_and_each_has_a_position_behind_it(store: Store) -> None:
    start = await store.watching.log_end()
    events = [event(f"e{number}", content=f'{{"n":{number}}}') for number in range(5)]
    await store.accept(events, now=NOW)
    page = await store.watching.read_log(ALL, after=start, limit=3, max_bytes=ROOM)
    assert [one.event for one in page.events] == events[:3]
    assert page.more
    for index, one in enumerate(page.events):
        rest, _ = await read_on(store, one.position)
        assert rest == [f"e{number}" for number in range(index + 1, 5)]
    assert await read_on(store, page.position) == (["e3", "e4"], await store.watching.log_end())


async def test_a_page_has_room_for_one_event_at_least(store: Store) -> None:
    await store.accept([event(f"e{n}", content='"' + "x" * 1000 + '"') for n in range(4)], now=NOW)
    after = await beginning(store)
    sizes = []
    for max_bytes in (1, 2000, 3000):
        page = await store.watching.read_log(ALL, after=after, limit=9, max_bytes=max_bytes)
        sizes.append((len(page.events), page.more))
    assert sizes == [(1, True), (1, True), (2, True)]


async def test_an_end_stays_the_end_whatever_was_accepted_for_others(store: Store) -> None:
    quiet = LogQuery(tenant_id=TenantId("quiet"))
    position = await store.watching.log_end()
    await accept(store, "loud", tenant="loud")
    found, moved = await read_on(store, position, query=quiet)
    assert found == []
    assert moved == await store.watching.log_end() != position


@pytest.fixture
def short_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MOST_SCANNED", 10)


async def test_a_filter_that_chooses_little_makes_short_pages_that_lead_on(
    store: Store, short_pages: None
) -> None:
    await accept(store, *(f"e{number}" for number in range(35)))
    await accept(store, "wanted", event_type="tool.list_changed")
    query = LogQuery(tenant_id=TENANT, filter=EventFilter(event_types=frozenset({"tool.*"})))
    after, pages = await beginning(store), list[tuple[list[str], bool]]()
    while not pages or pages[-1][1]:
        page = await store.watching.read_log(query, after=after, limit=9, max_bytes=ROOM)
        after = page.position
        pages.append(([one.event.event_id for one in page.events], page.more))
    assert pages == [*[([], True)] * 3, (["wanted"], False)]


@pytest.mark.usefixtures("short_pages")
async def test_publishers_at_once_and_readers_of_every_kind_agree(store: Store) -> None:
    """Nothing is ever committed before a position that was read."""
    await store.create(subscription("s", tenant=TENANT))
    done = asyncio.Event()
    chance = random.Random(7)
    queries = [ALL, LogQuery(tenant_id=TENANT)]
    queries += [LogQuery(tenant_id=None, filter=EventFilter(resource_ids=frozenset({"acc_1"})))]

    async def publish(name: int) -> None:
        for number in range(25):
            one = event(
                f"e{name}-{number}",
                tenant=chance.choice([TENANT, "emca"]),
                resource=chance.choice(["acc_1", "acc_2"]),
                publish_time=NOW + timedelta(seconds=chance.randint(-9, 9)),
            )
            await store.accept([one], now=NOW + timedelta(seconds=chance.randint(-9, 9)))

    async def read(query: LogQuery, limit: int) -> list[str]:
        found, position = await read_on(store, start, query=query, limit=limit)
        while not done.is_set():
            more, position = await read_on(store, position, query=query, limit=limit)
            found += more
        return found + (await read_on(store, position, query=query, limit=limit))[0]

    start = await store.watching.log_end()
    readers = [
        asyncio.create_task(read(query, limit)) for query in queries for limit in (1, 7, 100)
    ]
    await asyncio.gather(*map(publish, range(8)))
    done.set()
    page = await store.list_events(EventQuery(tenant_id=None), PageRequest(size=1000))
    stored = page.items[::-1]
    assert len(stored) == 200
    for reader, query in zip(readers, [one for one in queries for _ in range(3)], strict=True):
        assert await reader == [one.event_id for one in stored if chooses(query, one)]


def chooses(query: LogQuery, one: Event) -> bool:
    of_tenant = query.tenant_id in (None, one.tenant_id)
    return of_tenant and query.filter.matches(one.event_type, one.resource)


async def test_what_was_rolled_back_leaves_no_gap_and_no_repeat(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await store.watching.log_end()
    await accept(store, "e1")
    monkeypatch.setitem(failpoints._armed, "publish.before_commit", "raise")
    with pytest.raises(failpoints.InjectedFault):
        await accept(store, "lost")
    monkeypatch.delitem(failpoints._armed, "publish.before_commit")
    first, position = await read_on(store, start)
    await accept(store, "e2")
    assert (first, (await read_on(store, position))[0]) == (["e1"], ["e2"])


@pytest.mark.parametrize("back", [timedelta(0), timedelta(hours=2), timedelta(days=3650)])
async def test_a_clock_that_is_set_back_over_a_restart_keeps_the_order(
    store: Store, database_url: str, back: timedelta
) -> None:
    await accept(store, "e1", "e2")
    _, position = await read_on(store, await beginning(store))
    store = await reopened(store, database_url)
    try:
        await accept(store, "e3", now=NOW - back)
        assert (await read_on(store, position))[0] == ["e3"]
        assert await newest_first(store) == ["e3", "e2", "e1"]
    finally:
        await store.aclose()


async def test_numbers_rise_over_a_restart_even_where_everything_was_removed(
    store: Store, database_url: str
) -> None:
    await accept(store, "e1")
    _, position = await read_on(store, await beginning(store))
    assert await prune(store, now=NOW + timedelta(days=8)) == 1
    store = await reopened(store, database_url)
    try:
        assert (await read_on(store, position))[0] == []
        await accept(store, "e2", now=NOW - timedelta(days=1))
        assert (await read_on(store, position))[0] == ["e2"]
    finally:
        await store.aclose()


async def test_a_position_before_what_was_removed_is_refused_and_told_where_to_go_on(
    store: Store,
) -> None:
    old = await beginning(store)
    await accept(store, "e1")
    await accept(store, "e2", now=NOW + timedelta(days=5))
    _, position = await read_on(store, old, limit=1)
    assert await prune(store, now=NOW + timedelta(days=8)) == 1
    with pytest.raises(LogPruned) as caught:
        await read_on(store, old)
    assert (await read_on(store, caught.value.oldest))[0] == ["e2"]
    assert (await read_on(store, position))[0] == []
    assert (await read_on(store, await beginning(store)))[0] == ["e2"]


async def test_a_position_at_a_time_is_before_the_first_event_of_that_time(store: Store) -> None:
    step = timedelta(microseconds=400)
    for number in range(6):
        await accept(store, f"e{number}", now=NOW + number * step)
    for number in range(6):
        for start in (NOW + number * step, NOW + number * step - timedelta(microseconds=1)):
            position = await store.watching.log_from(start)
            assert (await read_on(store, position))[0] == [f"e{n}" for n in range(number, 6)]


async def test_a_time_is_found_where_the_clock_was_set_back(
    store: Store, short_pages: None
) -> None:
    """What comes after the first event of that time comes, whatever its own time is."""
    await accept(store, "e0", now=NOW + timedelta(hours=2))
    for number in range(1, 25):
        await accept(store, f"e{number}", now=NOW + timedelta(minutes=number))
    await accept(store, "e25", now=NOW + timedelta(hours=3))
    await accept(store, "e26", now=NOW)
    after = await store.watching.log_from(NOW + timedelta(hours=2, microseconds=1))
    page = await store.watching.read_log(ALL, after=after, limit=9, max_bytes=ROOM)
    assert (page.events, page.more) == ([], True)
    assert (await read_on(store, page.position))[0] == ["e25", "e26"]


async def test_a_time_to_come_is_waited_for(store: Store) -> None:
    start = NOW + timedelta(hours=1)
    found, position = await read_on(store, await store.watching.log_from(start))
    await accept(store, "early", now=start - timedelta(microseconds=1))
    found, position = await read_on(store, position)
    assert found == []
    await accept(store, "timely", "as well", now=start)
    assert (await read_on(store, position))[0] == ["timely", "as well"]


async def test_a_hint_follows_every_commit_with_events_and_nothing_else(store: Store) -> None:
    await store.create(subscription("s"))
    with store.watching.log_hints() as hint:
        await accept(store, "e1")
        await asyncio.wait_for(hint.wait(), 30)
        hint.clear()
        await accept(store, "e1")
        await store.create(subscription("other"))
        assert not hint.is_set()
        await accept(store, "e2")
        await asyncio.wait_for(hint.wait(), 30)
    assert not store.watching._news._hints
