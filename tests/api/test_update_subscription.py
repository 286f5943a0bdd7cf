"""UpdateSubscription, field by field."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.subscription import RetryPolicy as StoredPolicy
from signalpost.v1.event_pb2 import EventFilter
from signalpost.v1.subscription_pb2 import RateLimits, RetryPolicy, SigningKey, Subscription
from signalpost.v1.subscription_service_pb2 import (
    GetSubscriptionRequest,
    UpdateSubscriptionRequest,
)
from tests.api.service import HOOK, Service, failure_of

FULL: dict[str, Any] = {
    "display_name": "Before",
    "endpoint_uri": HOOK,
    "filter": EventFilter(event_types=["account.*"], resource_ids=["acc_1"]),
    "headers": {"Authorization": "Bearer before", "X-Kept": "kept"},
    "retry_policy": RetryPolicy(max_attempts=7, min_backoff=Duration(seconds=9)),
    "rate_limits": RateLimits(max_concurrent_attempts=5, max_attempts_per_second=0.5),
    "timeout": Duration(seconds=9),
    "allowed_ip_ranges": ["198.41.0.0/24"],
    "labels": {"team": "before"},
}
"""A subscription in which every field is set that can be."""

CHANGES: dict[str, Any] = {
    "display_name": "After",
    "endpoint_uri": "https://elsewhere.example.com/hook",
    "filter": EventFilter(event_types=["tool.list_changed"]),
    "headers": {"X-New": "new"},
    "retry_policy": RetryPolicy(max_attempts=3),
    "rate_limits": RateLimits(max_concurrent_attempts=6, max_attempts_per_second=9),
    "timeout": Duration(seconds=3),
    "ordered": True,
    "require_handshake": True,
    "allowed_ip_ranges": ["198.41.1.0/24", "2606:4700::/32"],
    "labels": {"team": "after", "tier": "gold"},
}
"""A change of each field."""

IDENTIFIERS = {"subscription_id", "tenant_id"}
OUTPUT_ONLY: dict[str, Any] = {
    "state": Subscription.SUSPENDED,
    "suspension_reason": Subscription.ENDPOINT_GONE,
    "suspension_message": "gone",
    "signing_keys": [SigningKey(key_id="other")],
    "allowed_attempts_per_minute": 9,
    "create_time": {"seconds": 1},
    "update_time": {"seconds": 1},
}


async def current(service: Service) -> Subscription:
    request = GetSubscriptionRequest(subscription_id="s")
    return (await service.subscriptions.GetSubscription(request)).subscription


async def update(
    service: Service, *paths: str, validate_only: bool = False, **fields: Any
) -> Subscription:
    request = UpdateSubscriptionRequest(
        subscription=Subscription(subscription_id="s", **fields),
        update_mask=FieldMask(paths=paths) if paths else None,
        validate_only=validate_only,
    )
    return (await service.subscriptions.UpdateSubscription(request)).subscription


def differing(before: Message, after: Message) -> set[str]:
    return {
        field.name
        for field in before.DESCRIPTOR.fields
        if getattr(before, field.name) != getattr(after, field.name)
    } - {"etag", "update_time"}


def test_every_field_of_a_subscription_has_a_case() -> None:
    fields = {field.name for field in Subscription.DESCRIPTOR.fields}
    assert fields == set(CHANGES) | IDENTIFIERS | set(OUTPUT_ONLY) | {"etag"}


@pytest.mark.parametrize("field", CHANGES)
@pytest.mark.parametrize("masked", [True, False])
async def test_a_field_alone_changes(service: Service, field: str, *, masked: bool) -> None:
    service.asked.agree()
    await service.subscribe(subscription_id="s", **FULL)
    before = await current(service)
    updated = await update(service, *([field] if masked else []), **{field: CHANGES[field]})
    after = await current(service)
    assert updated == after
    assert differing(before, after) == {field}
    assert after.etag != before.etag
    expected = Subscription(**{field: CHANGES[field]})
    match field:
        case "headers":
            assert dict(after.headers) == {"X-New": ""}
        case "retry_policy":
            assert after.retry_policy.max_attempts == 3
            assert after.retry_policy.min_backoff.seconds == 5
        case _:
            assert getattr(after, field) == getattr(expected, field)


@pytest.mark.parametrize("field", OUTPUT_ONLY)
async def test_an_output_only_field_is_ignored(service: Service, field: str) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    before = await current(service)
    assert await update(service, field, **{field: OUTPUT_ONLY[field]}) == before
    assert await update(service, **{field: OUTPUT_ONLY[field]}) == before


async def test_a_path_within_a_field_changes_no_more_than_that(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    await update(
        service,
        "retry_policy.max_attempts",
        "filter.resource_ids",
        retry_policy=RetryPolicy(max_attempts=9, min_backoff=Duration(seconds=77)),
        filter=EventFilter(event_types=["tool.*"]),
    )
    after = await current(service)
    assert (after.retry_policy.max_attempts, after.retry_policy.min_backoff.seconds) == (9, 9)
    assert (list(after.filter.event_types), list(after.filter.resource_ids)) == (["account.*"], [])


async def test_a_star_replaces_everything(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    await service.subscribe(subscription_id="plain")
    after = await update(service, "*", endpoint_uri=HOOK)
    plain = GetSubscriptionRequest(subscription_id="plain")
    expected = (await service.subscriptions.GetSubscription(plain)).subscription
    assert differing(expected, after) == {"subscription_id", "signing_keys"}


async def test_a_field_of_the_mask_that_is_not_given_is_cleared(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    after = await update(service, "display_name", "labels", "timeout")
    assert (after.display_name, dict(after.labels), after.timeout.seconds) == ("", {}, 15)


async def test_an_empty_header_value_keeps_what_is_stored(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    await update(service, headers={"authorization": "", "X-Kept": "changed"})
    stored = await service.store.get(TenantId(""), SubscriptionId("s"))
    assert stored.headers == {"authorization": "Bearer before", "X-Kept": "changed"}
    failure = await failure_of(update(service, headers={"X-Unknown": ""}))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    "path", ["nonsense", "filter.nonsense", "headers.Authorization", "display_name.x", ""]
)
async def test_an_unknown_path_is_named(service: Service, path: str) -> None:
    await service.subscribe(subscription_id="s")
    failure = await failure_of(update(service, "display_name", path))
    assert failure.violations == {"update_mask.paths[1]": "FIELD_INVALID"}


async def test_a_star_beside_other_paths_is_told_to_stand_alone(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    failure = await failure_of(update(service, "*", "display_name"))
    assert failure.message == "update_mask.paths[0]: must stand alone"


async def test_what_would_be_wrong_is_reported_and_changes_nothing(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    before = await current(service)
    for fields, path in (
        ({"endpoint_uri": "http://plain.example.com/"}, "subscription.endpoint_uri"),
        ({"endpoint_uri": "https://10.0.0.1/"}, "subscription.endpoint_uri"),
        ({"headers": {"Host": "x"}}, 'subscription.headers["Host"]'),
        ({"retry_policy": {"max_attempts": 51}}, "subscription.retry_policy.max_attempts"),
        ({"filter": {"event_types": ["no.such"]}}, "subscription.filter.event_types[0]"),
    ):
        failure = await failure_of(update(service, **fields))
        assert list(failure.violations) == [path]
    cleared = await failure_of(update(service, "endpoint_uri"))
    assert cleared.violations == {"subscription.endpoint_uri": "FIELD_INVALID"}
    assert await current(service) == before


async def test_all_that_would_be_wrong_is_reported_at_once(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    wrong: dict[str, Any] = {"display_name": "x" * 64, "labels": {"": "empty"}}
    failure = await failure_of(update(service, "labels", "nonsense", **wrong))
    assert failure.violations == {
        "subscription.display_name": "FIELD_INVALID",
        'subscription.labels[""]': "FIELD_INVALID",
        "update_mask.paths[1]": "FIELD_INVALID",
    }
    failure = await failure_of(
        update(
            service,
            "endpoint_uri",
            "headers",
            "filter",
            "retry_policy.max_backoff",
            endpoint_uri="http://plain.example.com/",
            headers={"Host": "x"},
            filter=EventFilter(event_types=["no.such"]),
            retry_policy=RetryPolicy(max_backoff=Duration(seconds=8)),
        )
    )
    assert failure.violations == {
        "subscription.filter.event_types[0]": "EVENT_TYPE_UNKNOWN",
        "subscription.retry_policy.max_backoff": "FIELD_INVALID",
        "subscription.endpoint_uri": "ENDPOINT_FORBIDDEN",
        'subscription.headers["Host"]': "FIELD_INVALID",
    }
    nameless = UpdateSubscriptionRequest(subscription=Subscription(display_name="x" * 64))
    failure = await failure_of(service.subscriptions.UpdateSubscription(nameless))
    assert set(failure.violations) == {
        "subscription.display_name",
        "subscription.subscription_id",
    }


async def test_of_delays_the_merged_policy_counts(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    before = await current(service)
    shorter = RetryPolicy(max_backoff=Duration(seconds=8))
    failure = await failure_of(update(service, "retry_policy.max_backoff", retry_policy=shorter))
    assert (
        failure.message
        == "subscription.retry_policy.max_backoff: must be at least min_backoff (9s)"
    )
    assert await current(service) == before
    await update(service, "retry_policy", retry_policy=shorter)
    longer = RetryPolicy(min_backoff=Duration(seconds=8, nanos=1000))
    failure = await failure_of(update(service, "retry_policy.min_backoff", retry_policy=longer))
    assert failure.violations == {"subscription.retry_policy.max_backoff": "FIELD_INVALID"}
    both = RetryPolicy(min_backoff=Duration(seconds=20), max_backoff=Duration(seconds=20))
    paths = ("retry_policy.min_backoff", "retry_policy.max_backoff")
    policy = (await update(service, *paths, retry_policy=both)).retry_policy
    assert (policy.min_backoff, policy.max_backoff) == (both.min_backoff, both.max_backoff)


async def test_delays_that_were_stored_before_they_were_checked_stop_no_other_change(
    service: Service,
) -> None:
    await service.subscribe(subscription_id="s")
    stored = await service.store.get(TenantId(""), SubscriptionId("s"))
    policy = StoredPolicy(min_backoff=timedelta(seconds=9), max_backoff=timedelta(seconds=1))
    await service.store.replace(replace(stored, retry_policy=policy), now=stored.update_time)
    assert (await update(service, display_name="After")).display_name == "After"
    failure = await failure_of(
        update(service, "retry_policy.max_attempts", retry_policy=RetryPolicy(max_attempts=3))
    )
    assert failure.violations == {"subscription.retry_policy.max_backoff": "FIELD_INVALID"}


async def test_validate_only_tells_and_changes_nothing(service: Service) -> None:
    await service.subscribe(subscription_id="s", **FULL)
    before = await current(service)
    told = await update(service, validate_only=True, display_name="After")
    assert told.display_name == "After"
    assert await current(service) == before


async def test_a_stale_etag_aborts(service: Service) -> None:
    created = (await service.subscribe(subscription_id="s")).subscription
    await update(service, display_name="first", etag=created.etag)
    failure = await failure_of(update(service, display_name="second", etag=created.etag))
    assert (failure.code, failure.reason) == (grpc.StatusCode.ABORTED, "ETAG_MISMATCH")
    assert failure.resource == ("subscription", "s")
    assert (await current(service)).display_name == "first"


async def test_of_two_updates_at_once_with_one_etag_exactly_one_wins(service: Service) -> None:
    etag = (await service.subscribe(subscription_id="s")).subscription.etag
    names = [f"name {number}" for number in range(10)]
    outcomes = await asyncio.gather(
        *(update(service, display_name=name, etag=etag) for name in names),
        return_exceptions=True,
    )
    won = [one for one in outcomes if isinstance(one, Subscription)]
    assert [one.display_name for one in won] == [(await current(service)).display_name]
    lost = [one for one in outcomes if isinstance(one, grpc.aio.AioRpcError)]
    assert {one.code() for one in lost} == {grpc.StatusCode.ABORTED}
    assert len(lost) == 9


async def test_updates_at_once_without_an_etag_all_count(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    await asyncio.gather(
        update(service, display_name="After"), update(service, labels={"team": "after"})
    )
    after = await current(service)
    assert (after.display_name, dict(after.labels)) == ("After", {"team": "after"})


async def test_without_an_etag_no_update_is_aborted_however_many_come_at_once(
    service: Service,
) -> None:
    await service.subscribe(subscription_id="s")
    names = {f"name {number}" for number in range(30)}
    updated = await asyncio.gather(*(update(service, display_name=name) for name in names))
    assert {one.display_name for one in updated} == names
    assert len({one.etag for one in updated}) == 30


async def test_updating_what_is_not_there_is_not_found(service: Service) -> None:
    failure = await failure_of(update(service, display_name="x"))
    assert (failure.code, failure.reason) == (grpc.StatusCode.NOT_FOUND, "NOT_FOUND")
    nameless = UpdateSubscriptionRequest(subscription=Subscription(display_name="x"))
    refused = await failure_of(service.subscriptions.UpdateSubscription(nameless))
    assert refused.violations == {"subscription.subscription_id": "FIELD_INVALID"}


async def test_the_lane_learns_how_much_may_go_at_once(service: Service) -> None:
    await service.subscribe(subscription_id="s")
    limits = RateLimits(max_concurrent_attempts=7, max_attempts_per_second=2.5)
    await update(service, rate_limits=limits)
    [(lanes, _)] = service.lanes.noticed
    assert [(lane.max_in_flight, lane.max_per_second) for lane in lanes] == [(7, 2.5)]
