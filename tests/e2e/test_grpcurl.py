"""Runs the page `grpcurl.md` as it stands: each method once, with the real grpcurl."""

import asyncio
import json
import os
import re
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from google.protobuf.descriptor import MethodDescriptor

from signalpost.v1 import (
    delivery_service_pb2,
    event_service_pb2,
    event_type_service_pb2,
    subscription_service_pb2,
)
from tests.conftest import Require
from tests.e2e.receiver import Receiver
from tests.e2e.service import Service

PAGE = Path(__file__).with_name("grpcurl.md")
BIN = Path(sysconfig.get_path("scripts"))
STEP = re.compile(r"^```sh\n(.*?)^```\n\n```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)
METHOD = re.compile(r"\$SERVER signalpost\.v1\.(\w+/\w+)$", re.MULTILINE)
WATCH = re.compile(r"\$SERVER signalpost\.v1\.\w+/Watch")
DELIVERY_ID = re.compile(r'"delivery_id": "(\w+)"')
SERVICES = (
    delivery_service_pb2.DESCRIPTOR.services_by_name["DeliveryService"],
    event_service_pb2.DESCRIPTOR.services_by_name["EventService"],
    event_type_service_pb2.DESCRIPTOR.services_by_name["EventTypeService"],
    subscription_service_pb2.DESCRIPTOR.services_by_name["SubscriptionService"],
)


@dataclass(frozen=True)
class Step:
    command: str
    answer: list[Any]


def steps() -> Iterator[Step]:
    for command, answer in STEP.findall(PAGE.read_text("utf-8")):
        yield Step(command, values(answer))


def values(text: str) -> list[Any]:
    """Read JSON values that follow one another."""
    decoder, found, rest = json.JSONDecoder(), [], text.strip()
    while rest:
        value, end = decoder.raw_decode(rest)
        found.append(value)
        rest = rest[end:].lstrip()
    return found


def shown(answer: Any, page: Any) -> Any:
    """Leave out of an answer what the page leaves out."""
    match answer, page:
        case dict(), dict():
            return {name: shown(answer.get(name), item) for name, item in page.items()}
        case list(), list() if len(answer) == len(page):
            return [shown(*pair) for pair in zip(answer, page, strict=True)]
        case str(), "..." if answer:
            return page
    return answer


async def watch(step: Step, environment: dict[str, str]) -> None:
    """Run a command that has no end until it printed what the page shows."""
    process = await asyncio.create_subprocess_shell(
        f"exec {step.command}", env=environment, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    output = ""
    while True:
        line = await process.stdout.readline()
        assert line, output
        output += line.decode()
        with suppress(ValueError):
            if shown(values(output), step.answer) == step.answer:
                break
    process.terminate()
    await process.wait()


async def run(command: str, environment: dict[str, str]) -> tuple[int, str]:
    process = await asyncio.create_subprocess_shell(
        command,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def environment_of(service: Service) -> dict[str, str]:
    path = f"{BIN}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "SERVER": service.address}


async def test_the_page_is_true(service: Service, receiver: Receiver, require: Require) -> None:
    require((BIN / "grpcurl").exists(), "grpcurl is not installed")
    receiver.consent = {"WebHook-Allowed-Origin": "signalpost", "WebHook-Allowed-Rate": "600"}
    await service.start()
    environment = environment_of(service) | {"HOOK": receiver.url("/billing")}
    for step in steps():
        if WATCH.search(step.command):
            await watch(step, environment)
            continue
        code, output = await run(step.command, environment)
        assert code == 0, (step.command, output)
        assert shown(values(output), step.answer) == step.answer, output
        if found := DELIVERY_ID.search(output):
            environment["DELIVERY_ID"] = found[1]


async def test_every_method_stands_on_the_page_or_is_not_there_yet(
    service: Service, require: Require
) -> None:
    require((BIN / "grpcurl").exists(), "grpcurl is not installed")
    await service.start()
    on_page = set(METHOD.findall("\n".join(step.command for step in steps())))
    methods = {named(method) for each in SERVICES for method in each.methods}
    assert on_page <= methods
    assert len(on_page) > 10
    for method in sorted(methods - on_page):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]
        call = service.channel.unary_unary(f"/signalpost.v1.{method}")
        assert (await call(b"").code()).name == "UNIMPLEMENTED", method


def named(method: MethodDescriptor) -> str:
    return f"{method.containing_service.name}/{method.name}"


async def test_every_method_on_the_page_can_be_described(
    service: Service, require: Require
) -> None:
    require((BIN / "grpcurl").exists(), "grpcurl is not installed")
    await service.start()
    environment = environment_of(service)
    for step in steps():
        [method] = METHOD.findall(step.command)
        symbol = "signalpost.v1." + method.replace("/", ".")
        code, output = await run(f"grpcurl -plaintext $SERVER describe {symbol}", environment)
        assert code == 0, output
        assert output.startswith(f"{symbol} is a method:\n"), output
        assert f"rpc {method.partition('/')[2]} (" in output
