"""`require_handshake`: endpoints are asked before anything is sent to them."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from signalpost.v1 import subscription_service_pb2 as rpc
from signalpost.v1.subscription_pb2 import RateLimits, Subscription
from tests.e2e.conftest import Authority
from tests.e2e.receiver import Receiver, Request
from tests.e2e.service import Service, connected

ORIGIN = "hooks.signalpost.example"
NAMED = ("--dev", "--handshake-origin", ORIGIN)
AT_ONCE = 8
"""Most requests that calls make to one host at once."""

AGREED = {"WebHook-Allowed-Origin": ORIGIN}


@pytest.fixture
async def named(service: Service) -> Service:
    """A running service that asks under a name of its own."""
    service.options = NAMED
    return await service.start()


@pytest.fixture
async def other(authority: Authority) -> AsyncIterator[Receiver]:
    async with Receiver(authority.context) as receiver:
        yield receiver


async def create(service: Service, url: str, **fields: Any) -> rpc.CreateSubscriptionResponse:
    subscription = Subscription(
        **{"subscription_id": "s", "endpoint_uri": url, "require_handshake": True, **fields}
    )
    request = rpc.CreateSubscriptionRequest(subscription=subscription)
    return await service.subscriptions.CreateSubscription(request, timeout=35)


async def refusal(service: Service, url: str, **fields: Any) -> str:
    """Create a subscription that must be refused; return what the caller is told."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await create(service, url, **fields)
    error, info = caught.value, ErrorInfo()
    raw = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    Status.FromString(raw).details[0].Unpack(info)
    assert (error.code().name, info.reason) == ("FAILED_PRECONDITION", "ENDPOINT_UNVERIFIED")
    listed = await service.subscriptions.ListSubscriptions(rpc.ListSubscriptionsRequest())
    assert not listed.subscriptions
    return error.details() or ""


@pytest.fixture
async def silent(receiver: Receiver) -> AsyncIterator[Receiver]:
    """A receiver that agrees to everything, but not before the test is over."""
    over = asyncio.Event()

    async def hold(_: Request) -> int:
        await over.wait()
        return 200

    receiver.answer, receiver.consent = hold, AGREED
    yield receiver
    over.set()


async def test_an_endpoint_that_agrees_gets_events_in_the_name_it_agreed_to(
    named: Service, receiver: Receiver
) -> None:
    receiver.consent = AGREED | {"WebHook-Allowed-Rate": "6000"}
    created = await create(
        named,
        receiver.url("/in?tenant=7"),
        headers={"Authorization": "Bearer canary"},
        rate_limits=RateLimits(max_attempts_per_second=500),
    )
    assert created.subscription.allowed_attempts_per_minute == 6000
    [asked] = receiver.requests
    assert (asked.method, asked.path, asked.body) == ("OPTIONS", "/in?tenant=7", b"")
    assert asked.headers["webhook-request-origin"] == ORIGIN
    assert asked.headers["webhook-request-rate"] == "30000"
    assert asked.headers["authorization"] == "Bearer canary"
    assert not {"webhook-id", "webhook-signature", "webhook-request-callback"} & set(asked.headers)
    await named.publish(connected("e"))
    await named.drained()
    await named.subscriptions.TestSubscription(rpc.TestSubscriptionRequest(subscription_id="s"))
    assert [one.method for one in receiver.requests] == ["OPTIONS", "POST", "POST"]
    for delivery in receiver.requests[1:]:
        delivery.verify(created.secret)
        assert delivery.headers["webhook-request-origin"] == ORIGIN
    await named.logged("endpoint agreed in the handshake")
    assert "canary" not in "".join(named.log)


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (405, AGREED, "it answered OPTIONS with 405"),
        (410, AGREED, "it answered OPTIONS with 410"),
        (503, {}, "it answered OPTIONS with 503"),
        (200, {}, "no WebHook-Allowed-Origin"),
        (204, {"WebHook-Allowed-Origin": "canary.example"}, f'neither "{ORIGIN}" nor "*"'),
        (200, AGREED | {"WebHook-Allowed-Rate": "canary"}, "WebHook-Allowed-Rate is neither"),
    ],
)
async def test_any_other_answer_is_none(
    named: Service, receiver: Receiver, status: int, headers: dict[str, str], said: str
) -> None:
    async def answer(_: Request) -> int:
        return status

    receiver.answer, receiver.consent = answer, headers
    told = await refusal(named, receiver.url())
    assert said in told
    assert "canary" not in told
    assert len(receiver.requests) == 1


async def test_a_redirect_is_not_followed(
    named: Service, receiver: Receiver, other: Receiver
) -> None:
    async def redirect(_: Request) -> int:
        return 307

    other.consent = AGREED
    receiver.answer, receiver.consent = redirect, AGREED | {"Location": other.url()}
    assert "with 307" in await refusal(named, receiver.url())
    assert other.requests == []
    assert (await create(named, other.url())).secret


async def test_no_answer_is_none_and_says_why(
    named: Service, silent: Receiver, authority: Authority
) -> None:
    told = await refusal(named, silent.url(), timeout=Duration(seconds=1))
    assert "no answer to OPTIONS (WAIT)" in told
    name_of_no_certificate = silent.url().replace("localhost", "127.0.0.1")
    assert "IP_ADDRESS_MISMATCH" in await refusal(named, name_of_no_certificate)
    async with Receiver(authority.context) as gone:
        closed = gone.url()
    assert "CONNECTION_REFUSED" in await refusal(named, closed)


async def test_where_the_service_does_not_connect_it_asks_nobody(named: Service) -> None:
    itself = f"https://localhost:{named.address.rpartition(':')[2]}/"
    told = await refusal(named, itself)
    assert told.endswith("it is where this service does not connect to")


async def test_a_name_that_changes_holds_for_those_that_are_asked_from_then_on(
    service: Service, receiver: Receiver, other: Receiver
) -> None:
    receiver.consent = other.consent = {"WebHook-Allowed-Origin": "*"}
    await service.start()
    await create(service, receiver.url())
    assert receiver.requests[0].headers["webhook-request-origin"] == "signalpost"
    await service.stop()
    service.options = NAMED
    await service.start()
    await service.publish(connected("before"))
    await service.drained()
    assert receiver.requests[-1].headers["webhook-request-origin"] == "signalpost"
    request = rpc.UpdateSubscriptionRequest(
        subscription=Subscription(subscription_id="s", endpoint_uri=other.url())
    )
    await service.subscriptions.UpdateSubscription(request)
    await service.publish(connected("after"))
    await service.drained()
    assert [one.method for one in other.requests] == ["OPTIONS", "POST"]
    assert {one.headers["webhook-request-origin"] for one in other.requests} == {ORIGIN}
    assert len(receiver.requests) == 2


async def test_a_site_that_never_asked_is_not_stormed(named: Service, receiver: Receiver) -> None:
    """Fifty endpoints on one host, all at once, and tests of one that is there already."""
    under_way, reached, released = 0, asyncio.Event(), asyncio.Event()

    async def not_found(_: Request) -> int:
        nonlocal under_way
        under_way += 1
        if under_way == AT_ONCE:
            reached.set()
        await released.wait()
        under_way -= 1
        return 404

    receiver.answer = not_found
    await named.subscribe(receiver.url(), subscription_id="t")
    test = rpc.TestSubscriptionRequest(subscription_id="t")
    calls = [create(named, receiver.url(f"/{n}"), subscription_id=f"s{n}") for n in range(50)]
    creating = asyncio.gather(*calls, return_exceptions=True)
    testing = asyncio.gather(*(named.subscriptions.TestSubscription(test) for _ in range(20)))
    await reached.wait()
    for _ in range(20):  # whatever else would be sent has the time of these
        await named.subscriptions.ListSubscriptions(rpc.ListSubscriptionsRequest())
    assert under_way == AT_ONCE
    released.set()
    assert {one.attempt.status_code for one in await testing} == {404}
    assert all(isinstance(one, grpc.aio.AioRpcError) for one in await creating)
    assert len(receiver.requests) == 70
    listed = await named.subscriptions.ListSubscriptions(rpc.ListSubscriptionsRequest())
    assert [one.subscription_id for one in listed.subscriptions] == ["t"]


async def test_a_call_that_is_cancelled_ends_its_request_and_stores_nothing(
    named: Service, silent: Receiver
) -> None:
    calling = asyncio.ensure_future(create(named, silent.url()))
    await silent.until(lambda: silent.requests)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    listed = await named.subscriptions.ListSubscriptions(rpc.ListSubscriptionsRequest())
    assert not listed.subscriptions
