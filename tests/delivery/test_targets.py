"""What attempts need to know of subscriptions: loaded together, and never older than needed."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy.exc import DatabaseError

from signalpost.delivery.targets import Targets
from signalpost.domain.delivery import Lease
from signalpost.domain.errors import NotFound
from signalpost.domain.ids import LaneId, SubscriptionId
from signalpost.domain.subscription import Subscription
from signalpost.ports import Pick
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, event, subscription
from tests.contract.sqlite_file import change, look

NAMES = [f"s{number}" for number in range(5)]
LATER = NOW + timedelta(minutes=1)


class Loads:
    """The subscriptions of a store; notes who is asked for, and answers when it may."""

    def __init__(self, store: Store) -> None:
        self._subscriptions_of = store.subscriptions_of
        self.asked: list[Sequence[LaneId]] = []
        self._unheard = asyncio.Semaphore(0)
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def subscriptions_of(
        self, lanes: Sequence[LaneId]
    ) -> Mapping[LaneId, Subscription | Exception]:
        self.asked.append(lanes)
        found = await self._subscriptions_of(lanes)
        self._unheard.release()
        await self.may_answer.wait()
        return found

    async def hear(self) -> None:
        """Return when they were asked for once more, and nobody knows the answer yet."""
        async with asyncio.timeout(30):
            await self._unheard.acquire()


@pytest.fixture
def loads(store: Store, monkeypatch: pytest.MonkeyPatch) -> Loads:
    loads = Loads(store)
    monkeypatch.setattr(store, "subscriptions_of", loads.subscriptions_of)
    return loads


@pytest.fixture
def targets(store: Store, loads: Loads) -> Targets:
    assert not loads.asked
    return Targets(store)


async def leased(store: Store) -> Sequence[Lease]:
    """Return a lease of each subscription there is."""
    await store.accept([event("e")], now=NOW)
    picks = [Pick(backlog.lane.lane_id, 1) for backlog in await store.backlogs()]
    return await store.claim(picks, now=NOW, lease_until=LATER)


async def test_those_who_ask_together_are_answered_by_one_look(
    store: Store, loads: Loads, targets: Targets
) -> None:
    for name in NAMES:
        await store.create(subscription(name))
    leases = await leased(store)
    for _ in range(2):
        found = await asyncio.gather(*(targets.of(lease) for lease in [*leases, *leases]))
        assert [one.subscription_id for one in found] == NAMES * 2
    assert loads.asked == [[lease.lane_id for lease in leases]]


async def test_who_asks_later_learns_of_a_change_meanwhile(
    store: Store, loads: Loads, targets: Targets
) -> None:
    stored = await store.create(subscription())
    [lease] = await leased(store)
    loads.may_answer.clear()
    first = asyncio.create_task(targets.of(lease))
    await loads.hear()
    changed = await store.replace(replace(stored, display_name="changed"), now=NOW)
    second = asyncio.create_task(targets.of(replace(lease, subscription_version=changed.version)))
    await loads.hear()
    loads.may_answer.set()
    assert (await first, await second) == (stored, changed)
    assert await targets.of(replace(lease, subscription_version=changed.version)) == changed


async def test_one_that_is_cancelled_or_cannot_be_had_hinders_no_other(
    store: Store, loads: Loads, targets: Targets
) -> None:
    for name in NAMES:
        await store.create(subscription(name))
    gone, given_up, *others = await leased(store)
    await store.delete(TENANT, SubscriptionId(NAMES[0]), etag=None, now=NOW)
    first = [asyncio.create_task(targets.of(lease)) for lease in (gone, given_up)]
    rest = [asyncio.create_task(targets.of(lease)) for lease in others]
    loads.may_answer.clear()
    await loads.hear()
    first[1].cancel()
    loads.may_answer.set()
    assert [one.subscription_id for one in await asyncio.gather(*rest)] == NAMES[2:]
    outcomes = await asyncio.gather(*first, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [NotFound, asyncio.CancelledError]
    assert len(loads.asked) == 1


async def test_where_the_file_cannot_be_read_for_one_the_others_are_had(
    store: Store, loads: Loads, targets: Targets, tmp_path: Path
) -> None:
    for name in NAMES:
        await store.create(subscription(name))
    leases = await leased(store)
    text, path = "damaged!" * 2000, tmp_path / "store.db"
    change(path, "UPDATE subscriptions SET labels = ? WHERE lane_id = ?", text, leases[2].lane_id)
    look(path, "PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    # Such a page holds nothing else, and begins with the number of the next one.
    page = content.index(text[:4080].encode()) // 4096 * 4096
    content[page : page + 4] = b"\xff" * 4
    path.write_bytes(content)
    found = await asyncio.gather(*(targets.of(one) for one in leases), return_exceptions=True)
    assert isinstance(found.pop(2), DatabaseError)
    had = [one.subscription_id for one in found if isinstance(one, Subscription)]
    assert had == ["s0", "s1", "s3", "s4"]
