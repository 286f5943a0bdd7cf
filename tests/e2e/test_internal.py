"""What goes wrong inside the service stays there: an ID leads to it, no content comes out."""

import json
from collections.abc import Awaitable
from typing import Any

import grpc.aio
import pytest
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from signalpost.v1.event_service_pb2 import PublishRequest, PublishStreamRequest
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from tests.e2e.service import Service, connected

CANARY = "canary-51c7"
SECRET = "whsec_Y2FuYXJ5LTUxYzctY2FuYXJ5LTUxYzctY2FuYXJ5LTU="
INSIDES = ("InjectedFault", "Traceback", "boundary", "handler", CANARY, SECRET)


async def fault_of(call: Awaitable[object]) -> str:
    """Await a call that must fail inside the service; return the ID of its failure."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    error = caught.value
    assert error.code() is grpc.StatusCode.INTERNAL
    trailers: dict[str, Any] = dict(error.trailing_metadata())
    [detail] = Status.FromString(trailers["grpc-status-details-bin"]).details
    info = ErrorInfo()
    assert detail.Unpack(info)
    told = f"{error.details()} {trailers} {dict(error.initial_metadata())}"
    assert not [word for word in INSIDES if word in told]
    assert info.reason == "INTERNAL"
    return info.metadata["errorId"]


async def test_failure_of_a_handler_tells_nothing_but_an_id_that_the_log_knows(
    service: Service,
) -> None:
    await service.start(failpoint="handler:raise")
    event = connected(CANARY, resource=CANARY)
    subscription = Subscription(endpoint_uri=f"https://localhost/{CANARY}")
    creation = CreateSubscriptionRequest(subscription=subscription, secret=SECRET)
    stream = service.events.PublishStream()
    await stream.write(PublishStreamRequest(events=[event]))
    told = [
        await fault_of(service.events.Publish(PublishRequest(events=[event]))),
        await fault_of(stream.read()),
        await fault_of(service.subscriptions.CreateSubscription(creation)),
    ]
    assert len(set(told)) == 3
    await service.stop()
    log = [json.loads(line) for line in service.log if line.startswith("{")]
    failures = {one["error_id"]: one for one in log if one["message"] == "call failed"}
    assert set(failures) == set(told)
    assert all("InjectedFault" in one["error"] for one in failures.values())
    for hidden in (CANARY, SECRET):
        assert hidden not in "\n".join(service.log)
