import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from signalpost.api.masks import chosen, mask_violations, merged
from signalpost.v1.event_pb2 import EventFilter
from signalpost.v1.subscription_pb2 import RateLimits, RetryPolicy, Subscription

STORED = Subscription(
    display_name="before",
    timeout=Duration(seconds=29, nanos=500_000_000),
    retry_policy=RetryPolicy(max_attempts=7, min_backoff=Duration(seconds=9)),
    filter=EventFilter(event_types=["account.*"], resource_ids=["acc_1"]),
)


def change(given: Subscription, *paths: str) -> Subscription:
    assert not mask_violations(given, FieldMask(paths=paths))
    mask = chosen(given, FieldMask(paths=paths), ignored=frozenset({"state"}))
    return merged(STORED, given, mask)


def test_without_a_mask_the_fields_that_are_set_change() -> None:
    given = Subscription(display_name="after", state=Subscription.PAUSED)
    changed = change(given)
    assert changed.display_name == "after"
    assert changed.state == Subscription.STATE_UNSPECIFIED
    assert changed.retry_policy == STORED.retry_policy


def test_a_star_stands_for_every_field() -> None:
    assert change(Subscription(display_name="after"), "*") == Subscription(display_name="after")


@pytest.mark.parametrize("given", [Subscription(), Subscription(retry_policy=RetryPolicy())])
def test_a_field_within_one_is_cleared_whether_or_not_the_outer_one_is_given(
    given: Subscription,
) -> None:
    changed = change(given, "retry_policy.max_attempts", "filter.resource_ids")
    assert changed.retry_policy == RetryPolicy(min_backoff=Duration(seconds=9))
    assert changed.filter == EventFilter(event_types=["account.*"])


def test_a_field_may_be_set_within_one_that_is_not_stored() -> None:
    given = Subscription(rate_limits=RateLimits(max_concurrent_attempts=3))
    changed = change(given, "rate_limits.max_concurrent_attempts")
    assert changed.rate_limits == given.rate_limits


def test_what_is_given_and_stored_stays_as_it_was() -> None:
    given, stored = Subscription(), Subscription()
    merged(stored, given, FieldMask(paths=["retry_policy.max_attempts"]))
    assert not given.HasField("retry_policy")
    assert not stored.HasField("retry_policy")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "nonsense",
        "displayName",
        "display_name.x",
        "filter.nonsense",
        "retry_policy.",
        "labels.team",
        "signing_keys.key_id",
        "timeout.seconds",
        "retry_policy.min_backoff.nanos",
        "*",
    ],
)
def test_a_path_that_is_none_is_named(path: str) -> None:
    given = Subscription(timeout=Duration(seconds=30))
    found = mask_violations(given, FieldMask(paths=["display_name", path]))
    assert [one.field for one in found] == ["update_mask.paths[1]"]
