"""What was learned of endpoints, as far as a restart must know it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import Outcome
from signalpost.domain.pace import HEALTHY, Ceiling, Circuit, Failing, Pace
from signalpost.domain.subscription import State
from signalpost.domain.verdict import RetryAt
from signalpost.ports import Paced
from signalpost.store import Store
from tests.contract.material import LEASE, NOW, TENANT, claim, ended, event, lane, subscription
from tests.contract.sqlite_file import change

LATER = NOW + timedelta(minutes=1)
FAILING = Failing(
    count=12, since=NOW, last=LATER, forbidden=3, forbidden_since=NOW + timedelta(seconds=1)
)
FULL = Pace(
    circuit=Circuit(LATER, 7),
    failing=FAILING,
    ceiling=Ceiling(limit=20, time=NOW),
    not_before=NOW + timedelta(hours=3),
)


async def learn(store: Store, lane_id: LaneId, pace: Pace) -> None:
    await store.accept([event("e1")], now=NOW)
    [lease] = await claim(store, lane_id)
    retry = ended(lease, RetryAt(NOW), outcome=Outcome.TIMED_OUT)
    assert await store.record(replace(retry, pace=pace), now=NOW)


@pytest.mark.parametrize(
    "pace",
    [
        FULL,
        Pace(circuit=FULL.circuit, failing=replace(FAILING, forbidden=0, forbidden_since=None)),
        Pace(ceiling=FULL.ceiling),
        Pace(not_before=FULL.not_before),
    ],
)
async def test_what_a_record_brings_is_kept_until_the_next_that_brings_something(
    store: Store, pace: Pace
) -> None:
    lane_id = (await store.create(subscription())).lane_id
    assert await store.paces() == []
    await learn(store, lane_id, FULL)
    await learn(store, lane_id, replace(pace, strikes=3, former=FULL.ceiling))
    assert await store.paces() == [Paced(lane(lane_id), pace)]
    [lease] = await claim(store, lane_id)
    assert await store.record(ended(lease), now=NOW)
    assert len(await store.paces()) == 1


async def test_of_an_endpoint_that_is_healthy_again_nothing_is_kept(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await learn(store, lane_id, FULL)
    await learn(store, lane_id, HEALTHY)
    assert await store.paces() == []


async def test_an_attempt_whose_lease_was_lost_still_teaches(store: Store) -> None:
    lane_id = (await store.create(subscription())).lane_id
    await store.accept([event("e1")], now=NOW)
    [lease] = await claim(store, lane_id)
    await store.rescue(now=NOW + LEASE, limit=10)
    late = ended(lease, RetryAt(NOW), outcome=Outcome.TIMED_OUT)
    assert await store.record(replace(late, pace=FULL), now=NOW) is None
    assert await store.paces() == [Paced(lane(lane_id), FULL)]


@pytest.mark.parametrize("state", [State.PAUSED, State.SUSPENDED])
async def test_a_lane_that_is_stopped_begins_anew(store: Store, state: State) -> None:
    stored = await store.create(subscription())
    await learn(store, stored.lane_id, FULL)
    await store.replace(replace(stored, state=state), now=NOW)
    assert await store.paces() == []


async def test_a_change_of_the_subscription_keeps_it_and_a_deletion_does_not(store: Store) -> None:
    stored = await store.create(subscription())
    await learn(store, stored.lane_id, FULL)
    await store.replace(replace(stored, max_concurrent_attempts=5), now=NOW)
    expected = lane(stored.lane_id, max_in_flight=5)
    assert await store.paces() == [Paced(expected, FULL)]
    await store.delete(TENANT, stored.subscription_id, etag=None, now=NOW)
    assert await store.paces() == []


@pytest.mark.parametrize(
    "damage",
    [
        "probe_at = probe_at + (1 << 62)",
        "probes = 'x'",
        "failures = 'x'",
        "failing_since = 'x'",
        "last_failure = NULL",
        "forbidden = 'x'",
        "ceiling = 'x'",
        "ceiling = 0",
        "ceiling_time = NULL",
        "not_before = 1e300",
    ],
)
async def test_what_is_damaged_is_as_if_it_had_not_been_learned(
    store: Store, path: Path, damage: str
) -> None:
    bad, good = [(await store.create(subscription(name))).lane_id for name in ("bad", "good")]
    await store.accept([event("e1")], now=NOW)
    for lane_id in (bad, good):
        [lease] = await claim(store, lane_id)
        retry = ended(lease, RetryAt(NOW), outcome=Outcome.TIMED_OUT)
        assert await store.record(replace(retry, pace=FULL), now=NOW)
    assert len(await store.paces()) == 2
    change(path, f"UPDATE lanes SET {damage} WHERE lane_id = ?", bad)  # noqa: S608
    assert await store.paces() == [Paced(lane(good), FULL)]
