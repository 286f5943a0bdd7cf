"""Subscriptions that could never do what they ask for are refused."""

import grpc
from google.protobuf.duration_pb2 import Duration

from signalpost.v1.event_pb2 import EventFilter
from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import (
    GetSubscriptionRequest,
    UpdateSubscriptionRequest,
)
from tests.api.service import Service, failure_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT


async def get(service: Service) -> Subscription:
    request = GetSubscriptionRequest(subscription_id="crm")
    return (await service.subscriptions.GetSubscription(request)).subscription


async def test_a_longest_delay_alone_bounds_the_shortest_one_too(service: Service) -> None:
    shorter = RetryPolicy(max_backoff=Duration(seconds=2))
    shown = (await service.subscribe(subscription_id="crm", retry_policy=shorter)).subscription
    assert shown.retry_policy.min_backoff == shown.retry_policy.max_backoff == shorter.max_backoff
    longer = RetryPolicy(max_backoff=Duration(seconds=6))
    shown = (await service.subscribe(retry_policy=longer)).subscription
    assert shown.retry_policy.min_backoff == Duration(seconds=5)


async def test_a_shortest_delay_above_the_longest_is_refused(service: Service) -> None:
    policy = RetryPolicy(min_backoff=Duration(seconds=60), max_backoff=Duration(seconds=10))
    failure = await failure_of(service.subscribe(retry_policy=policy))
    assert failure.code is INVALID
    assert failure.violations == {"subscription.retry_policy.max_backoff": "FIELD_INVALID"}
    assert (
        failure.message
        == "subscription.retry_policy.max_backoff: must be at least min_backoff (60s)"
    )


async def test_ranges_to_none_of_which_the_service_connects_are_refused(service: Service) -> None:
    narrow = ["10.0.0.0/8", "fd00::/8"]
    failure = await failure_of(
        service.subscribe(
            endpoint_uri="https://hooks.example.com:25/",
            allowed_ip_ranges=narrow,
            filter=EventFilter(event_types=["no.such"]),
        )
    )
    assert failure.violations == {
        "subscription.endpoint_uri": "ENDPOINT_FORBIDDEN",
        "subscription.allowed_ip_ranges": "FIELD_INVALID",
        "subscription.filter.event_types[0]": "EVENT_TYPE_UNKNOWN",
    }
    partly = [*narrow, "198.41.0.0/24"]
    created = await service.subscribe(subscription_id="crm", allowed_ip_ranges=partly)
    assert created.subscription.allowed_ip_ranges == partly
    request = UpdateSubscriptionRequest(
        subscription=Subscription(subscription_id="crm", allowed_ip_ranges=narrow)
    )
    failure = await failure_of(service.subscriptions.UpdateSubscription(request))
    assert failure.message == (
        "subscription.allowed_ip_ranges: has no address that this service connects to"
    )
    assert (await get(service)).allowed_ip_ranges == partly
