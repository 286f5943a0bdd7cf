"""Floods of HTTP/2 frames to a service that has little memory: it lives, and others are served."""

import asyncio
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.conftest import Require
from tests.e2e.control_group import MemoryGroup, can_bound_memory
from tests.e2e.service import Service
from tests.e2e.test_large_at_once import publish_small
from tests.e2e.test_little_memory import MEMORY
from tests.e2e.test_publish_stream import stored

FRAMES = 30_000
DATA, HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_HEADERS = 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


@pytest.fixture
def group(require: Require) -> Iterator[MemoryGroup]:
    require(can_bound_memory(), "needs root and control groups")
    with MemoryGroup.of(MEMORY) as group:
        yield group


def frame(kind: int, stream: int, payload: bytes = b"", *, flags: int = 0) -> bytes:
    """Encode a frame (RFC 9113, section 4.1)."""
    size = len(payload).to_bytes(3, "big")
    return size + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name: bytes, value: bytes) -> bytes:
    """Encode a header that no table has (RFC 7541, section 6.2.2)."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


CALL = b"\x83\x86" + b"".join(  # POST, http
    (
        field(b":path", b"/signalpost.v1.EventService/Publish"),
        field(b":authority", b"x"),
        field(b"content-type", b"application/grpc"),
        field(b"te", b"trailers"),
    )
)


def opened(number: int) -> bytes:
    """A call whose request never comes."""
    return frame(HEADERS, 2 * number + 1, CALL, flags=END_HEADERS)


def opened_and_reset(number: int) -> bytes:
    return opened(number) + frame(RST_STREAM, 2 * number + 1, struct.pack(">I", 8))


def half_sent(number: int) -> bytes:
    """A call that says its request has 4 MiB, and sends 1 KiB of it."""
    data = b"\0" + struct.pack(">I", 4 * 2**20) + bytes(1024)
    return opened(number) + frame(DATA, 2 * number + 1, data)


def continued(number: int) -> bytes:
    """Headers without an end."""
    return frame(CONTINUATION if number else HEADERS, 1, field(b"name", b"v" * 100) * 50)


def pinged(_: int) -> bytes:
    return frame(PING, 0, bytes(8))


async def flood(address: str, frames: Callable[[int], bytes]) -> None:
    """Send frames as fast as they are taken; the server may end that."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    reading = asyncio.create_task(reader.read())
    with suppress(ConnectionError):
        writer.write(PREFACE + frame(SETTINGS, 0))
        for number in range(FRAMES):
            writer.write(frames(number))
            await writer.drain()
    writer.close()
    reading.cancel()


@pytest.mark.parametrize("frames", [opened, opened_and_reset, half_sent, continued, pinged])
async def test_flood_of_frames_ends_no_service_and_no_call(
    group: MemoryGroup, service: Service, frames: Callable[[int], bytes]
) -> None:
    service.within = group.within
    await service.start()
    done = asyncio.Event()
    small = asyncio.create_task(publish_small(service, done))
    await flood(service.address, frames)
    done.set()
    accepted = await small
    assert sorted(await stored(service)) == sorted(accepted) != []
    assert group.kills() == 0
    assert await service.stop() == 0
