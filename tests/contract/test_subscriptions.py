"""Keeping subscriptions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path

import pytest

from signalpost.domain.errors import AlreadyExists, EtagMismatch, NotFound
from signalpost.domain.filter import EventFilter
from signalpost.domain.handshake import Consent
from signalpost.domain.ids import LaneId, SubscriptionId, TenantId
from signalpost.domain.subscription import RetryPolicy, State, Subscription, SuspensionReason
from signalpost.ports import PageRequest, SubscriptionQuery, SubscriptionUnreadable, Unreadable
from signalpost.store import Store
from tests.contract.material import NOW, TENANT, event, signing_key, subscription
from tests.contract.sqlite_file import change

SUB = SubscriptionId("sub")
LATER = NOW + timedelta(hours=1)


def with_everything() -> Subscription:
    newest = signing_key(b"n" * 24, key_id="key-2")
    former = replace(signing_key(b"\0\xff" * 16), expire_time=LATER)
    return subscription(
        signing_keys=(newest, former),
        display_name="Zoë's",
        filter=EventFilter(event_types=frozenset({"account.*"}), resource_ids=frozenset({"1"})),
        headers={"Authorization": "Bearer x", "a": ""},
        retry_policy=RetryPolicy(
            max_attempts=3,
            max_retry_duration=timedelta(days=2),
            min_backoff=timedelta(milliseconds=1500),
            backoff_multiplier=1.7,
        ),
        timeout=timedelta(seconds=7),
        max_concurrent_attempts=3,
        allowed_ip_ranges=(ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")),
        labels={"team": "billing"},
        require_handshake=True,
        consent=Consent("hooks.example.com", 90),
        state=State.SUSPENDED,
        suspension_reason=SuspensionReason.ENDPOINT_GONE,
        suspension_message="answered 410",
    )


async def test_subscription_is_read_back_as_it_was(store: Store) -> None:
    stored = await store.create(with_everything())
    assert stored == replace(with_everything(), lane_id=stored.lane_id)
    assert stored.lane_id > 0
    assert await store.get(TENANT, SUB) == stored
    assert await store.subscriptions_of([stored.lane_id]) == {stored.lane_id: stored}


@pytest.mark.parametrize("consent", [None, Consent("a"), Consent("b", 1)])
async def test_consent_changes_with_its_subscription(store: Store, consent: Consent | None) -> None:
    stored = await store.create(with_everything())
    changed = replace(stored, require_handshake=consent is not None, consent=consent)
    changed = await store.replace(changed, now=LATER)
    assert changed.consent == consent
    assert await store.get(TENANT, SUB) == changed


async def test_a_lane_is_as_fast_as_its_endpoint_allowed(store: Store) -> None:
    consent = Consent("hooks.example.com", 90)
    await store.create(subscription(max_attempts_per_second=9.0, consent=consent))
    [accepted] = await store.accept([event("e")], now=NOW)
    [lane] = accepted.lanes
    [backlog] = await store.backlogs()
    assert lane.max_per_second == 1.5
    assert backlog.lane == lane


async def test_name_is_taken_within_a_tenant_only(store: Store) -> None:
    await store.create(subscription())
    with pytest.raises(AlreadyExists):
        await store.create(subscription(display_name="another"))
    await store.create(subscription(tenant="other"))
    assert (await store.get(TENANT, SUB)).display_name == ""


async def test_missing_subscription_and_that_of_another_tenant_are_not_found(
    store: Store,
) -> None:
    await store.create(subscription(tenant="other"))
    for tenant in (TENANT, TenantId("")):
        with pytest.raises(NotFound):
            await store.get(tenant, SUB)
        with pytest.raises(NotFound):
            await store.delete(tenant, SUB, etag=None, now=NOW)
        with pytest.raises(NotFound):
            await store.replace(subscription(tenant=tenant), now=NOW)
    [missing] = (await store.subscriptions_of([LaneId(99)])).values()
    assert isinstance(missing, NotFound)


async def test_change_raises_the_version_and_keeps_the_lane(store: Store) -> None:
    stored = await store.create(with_everything())
    rotated = replace(
        stored,
        signing_keys=(signing_key(b"3" * 32, key_id="key-3"), *stored.signing_keys),
        headers={},
        state=State.ACTIVE,
    )
    changed = await store.replace(rotated, now=LATER)
    assert changed == replace(rotated, version=2, update_time=LATER)
    assert await store.get(TENANT, SUB) == changed


async def test_change_of_what_was_changed_meanwhile_is_refused(store: Store) -> None:
    stored = await store.create(subscription())
    await store.replace(replace(stored, display_name="first"), now=NOW)
    with pytest.raises(EtagMismatch):
        await store.replace(replace(stored, display_name="second"), now=NOW)
    assert (await store.get(TENANT, SUB)).display_name == "first"


async def test_deletion_heeds_the_etag(store: Store) -> None:
    stored = await store.create(subscription())
    changed = await store.replace(stored, now=NOW)
    with pytest.raises(EtagMismatch):
        await store.delete(TENANT, SUB, etag=stored.etag, now=NOW)
    assert await store.delete(TENANT, SUB, etag=changed.etag, now=NOW) == stored.lane_id
    with pytest.raises(NotFound):
        await store.get(TENANT, SUB)
    [deleted] = (await store.subscriptions_of([stored.lane_id])).values()
    assert isinstance(deleted, NotFound)


async def test_name_of_a_deleted_subscription_is_free_and_its_lane_is_not(store: Store) -> None:
    first = await store.create(subscription())
    await store.delete(TENANT, SUB, etag=None, now=NOW)
    second = await store.create(subscription())
    assert second.lane_id > first.lane_id
    assert await store.get(TENANT, SUB) == second


async def test_list_goes_by_tenant_and_id_and_is_stable_while_it_grows(store: Store) -> None:
    for tenant, name in (("b", "b"), ("a", "c"), ("a", "a"), ("b", "a"), ("c", "a")):
        await store.create(subscription(name, tenant=tenant))
    await store.delete(TenantId("c"), SubscriptionId("a"), etag=None, now=NOW)
    seen: list[tuple[str, str]] = []
    after: str | None = None
    for _ in range(4):
        page = await store.list_subscriptions(
            SubscriptionQuery(tenant_id=None), PageRequest(size=1, after=after)
        )
        seen += [(found.tenant_id, found.subscription_id) for found in page.items]
        after = page.next_after
        if len(seen) == 2:
            await store.create(subscription("0", tenant="a"))
    assert seen == [("a", "a"), ("a", "c"), ("b", "a"), ("b", "b")]
    assert after is None
    page = await store.list_subscriptions(
        SubscriptionQuery(tenant_id=TenantId("a")), PageRequest(size=9)
    )
    assert [found.subscription_id for found in page.items] == ["0", "a", "c"]


async def test_list_keeps_to_states_and_event_type(store: Store) -> None:
    await store.create(subscription("all"))
    await store.create(subscription("paused", state=State.PAUSED))
    for name, types, resources in (
        ("family", {"account.*"}, set()),
        ("one", {"quota.exceeded"}, set()),
        ("resource", {"account.connected"}, {"acc_1"}),
    ):
        chosen = EventFilter(event_types=frozenset(types), resource_ids=frozenset(resources))
        await store.create(subscription(name, filter=chosen))

    async def names(query: SubscriptionQuery) -> list[str]:
        page = await store.list_subscriptions(query, PageRequest(size=9))
        return [found.subscription_id for found in page.items]

    paused = SubscriptionQuery(tenant_id=TENANT, states=frozenset({State.PAUSED}))
    assert await names(paused) == ["paused"]
    connected = SubscriptionQuery(tenant_id=TENANT, event_type="account.connected")
    assert await names(connected) == ["all", "family", "paused", "resource"]


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE subscriptions SET labels = CAST(x'7bff' AS TEXT) WHERE lane_id = 1",
        "UPDATE subscriptions SET update_time = update_time + (1 << 62) WHERE lane_id = 1",
        "UPDATE signing_keys SET create_time = create_time + (1 << 62) WHERE lane_id = 1",
    ],
)
async def test_what_cannot_be_read_of_one_subscription_fails_none_beside_it(
    store: Store, path: Path, damage: str
) -> None:
    bad, good = [await store.create(subscription(name)) for name in ("bad", "good")]
    change(path, damage)
    found = await store.subscriptions_of([bad.lane_id, good.lane_id])
    assert isinstance(found[bad.lane_id], SubscriptionUnreadable)
    assert found[good.lane_id] == good


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE subscriptions SET labels = '{' WHERE lane_id = 1",
        "UPDATE subscriptions SET filter = '{' WHERE lane_id = 1",
        "UPDATE subscriptions SET filter = '[]' WHERE lane_id = 1",
        "UPDATE subscriptions SET headers = x'00' WHERE lane_id = 1",
        "UPDATE signing_keys SET secret = x'00' WHERE lane_id = 1",
        "UPDATE subscriptions SET headers = 1 WHERE lane_id = 1",
        "UPDATE subscriptions SET timeout = 'x' WHERE lane_id = 1",
        "UPDATE subscriptions SET timeout = 1e300 WHERE lane_id = 1",
        "UPDATE subscriptions SET create_time = create_time + (1 << 62) WHERE lane_id = 1",
        "UPDATE signing_keys SET expire_time = 1 << 62 WHERE lane_id = 1",
    ],
)
async def test_list_tells_which_one_cannot_be_read_and_shows_the_others(
    store: Store, path: Path, damage: str
) -> None:
    _, good = [await store.create(subscription(name)) for name in ("bad", "good")]
    change(path, damage)
    for event_type in (None, "account.connected"):
        query = SubscriptionQuery(tenant_id=TENANT, event_type=event_type)
        bad, shown = (await store.list_subscriptions(query, PageRequest(size=9))).items
        assert shown == good
        assert isinstance(bad, Unreadable)
        assert (bad.tenant_id, bad.subscription_id) == (TENANT, "bad")
        assert f'stored subscription "bad" of tenant "{TENANT}"' in bad.problem
