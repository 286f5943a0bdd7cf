import asyncio
import errno
import socket
import sysconfig
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from signalpost.api import probes
from signalpost.api.server import AddressUnavailable, build_server
from tests.api.service import PLENTY, Asked, HandClock, LaneRecorder, Service, build, failure_of
from tests.conftest import Require

GRPCURL = Path(sysconfig.get_path("scripts")) / "grpcurl"
SERVICES = ["EventService", "EventTypeService", "SubscriptionService", "DeliveryService"]


def health(service: Service) -> Any:
    """Its type stubs do not know the methods."""
    return HealthStub(service.channel)


async def grpcurl(service: Service, *arguments: str, data: str | None = None) -> tuple[int, str]:
    options = ["-plaintext"] + (["-d", data] if data is not None else [])
    address = f"127.0.0.1:{service.server.port}"
    process = await asyncio.create_subprocess_exec(
        GRPCURL,
        *options,
        address,
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


async def test_second_server_on_a_port_fails_with_one_line(service: Service) -> None:
    services = build(service.store, LaneRecorder(), HandClock(), Asked())
    address = f"127.0.0.1:{service.server.port}"
    with pytest.raises(AddressUnavailable) as caught:
        build_server(services, address=address, reflection=False, share=PLENTY)
    assert address in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_a_family_of_addresses_that_the_machine_has_not_fails_with_one_line(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_ipv6(family: int, kind: int) -> socket.socket:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    services = build(service.store, LaneRecorder(), HandClock(), Asked())
    monkeypatch.setattr(socket, "socket", without_ipv6)
    with pytest.raises(AddressUnavailable, match="Address family not supported"):
        build_server(services, address="[::1]:0", reflection=False, share=PLENTY)


@pytest.mark.parametrize("name", ["", *(f"signalpost.v1.{one}" for one in SERVICES)])
async def test_health_tells_of_the_server_and_each_service(service: Service, name: str) -> None:
    answer = await health(service).Check(HealthCheckRequest(service=name))
    assert answer.status == HealthCheckResponse.SERVING


@pytest.mark.parametrize("method", ["Check", "Watch"])
async def test_health_check_without_a_request_is_refused(service: Service, method: str) -> None:
    kind: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    kind = service.channel.stream_stream(f"/grpc.health.v1.Health/{method}")
    failure = await failure_of(kind(iter(())).read())
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.message == "there is no request"


async def test_health_check_whose_request_does_not_come_ends(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "_SECONDS", 0.05)
    kind: grpc.aio.StreamStreamMultiCallable[bytes, bytes]
    kind = service.channel.stream_stream("/grpc.health.v1.Health/Check")
    failure = await failure_of(kind().read())
    assert failure.code is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_health_check_that_is_too_large_is_refused(service: Service) -> None:
    failure = await failure_of(health(service).Check(HealthCheckRequest(service="a" * 5000)))
    assert failure.code is grpc.StatusCode.INVALID_ARGUMENT
    assert failure.message == "the request has 5003 bytes, 4096 at most"


async def test_health_of_what_is_not_there_is_told(service: Service) -> None:
    request = HealthCheckRequest(service="signalpost.v1.NoService")
    assert (await failure_of(health(service).Check(request))).code is grpc.StatusCode.NOT_FOUND
    watch = health(service).Watch(request)
    assert (await watch.read()).status == HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


async def test_draining_is_told_to_health_checks_and_ends_the_server(service: Service) -> None:
    watch = health(service).Watch(HealthCheckRequest())
    seen = [(await watch.read()).status]
    draining = asyncio.create_task(service.server.drain(timedelta(seconds=5)))
    seen.append((await watch.read()).status)
    assert seen == [HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING]
    watch.cancel()
    await draining
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await health(service).Check(HealthCheckRequest())
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_reflection_describes_services_and_methods(
    service: Service, require: Require
) -> None:
    require(GRPCURL.exists(), "grpcurl is not installed")
    code, listed = await grpcurl(service, "list")
    assert code == 0
    assert set(listed.split()) == {
        *(f"signalpost.v1.{one}" for one in SERVICES),
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }
    for symbol in ("signalpost.v1.EventService.Publish", "signalpost.v1.Event"):
        code, described = await grpcurl(service, "describe", symbol)
        assert code == 0, described
        assert "is a" in described
    code, described = await grpcurl(service, "describe", "signalpost.v1.EventService.Nothing")
    assert code != 0


async def test_grpcurl_shows_the_details_of_a_failure(service: Service, require: Require) -> None:
    require(GRPCURL.exists(), "grpcurl is not installed")
    code, output = await grpcurl(
        service, "signalpost.v1.EventService/Publish", data='{"events": [{"event_id": "not ok"}]}'
    )
    assert code != 0
    assert "InvalidArgument" in output
    assert '"reason":"FIELD_INVALID"' in output
    for path in ("events[0].event_id", "events[0].resource", "events[0].payload"):
        assert f'"field":"{path}"' in output


async def test_without_reflection_there_is_none(service: Service) -> None:
    services = build(service.store, LaneRecorder(), HandClock(), Asked())
    server = build_server(services, address="127.0.0.1:0", reflection=False, share=PLENTY)
    await server.start()
    method = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        call: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(method)
        stream = call()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    await server.drain(timedelta(0))
