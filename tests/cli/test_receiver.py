from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx
import pytest

from signalpost.cli.certificates import Certificates, provide
from signalpost.cli.receiver import (
    MAX_BODY_BYTES,
    MAX_DISCARDED_BYTES,
    MAX_HEADER_BYTES,
    Answer,
    Request,
    receiving,
)
from signalpost.domain.handshake import Consent, judge

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return provide(tmp_path_factory.mktemp("certificates"), now=datetime.now(UTC))


@dataclass
class Site:
    """A receiver that echoes, and what it received."""

    url: str
    port: int
    client_tls: ssl.SSLContext
    requests: list[Request] = field(default_factory=list)

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=self.client_tls, base_url=self.url, timeout=30)

    async def raw(self, data: bytes) -> bytes:
        """Send bytes; return all that comes until the server closes."""
        reader, writer = await asyncio.open_connection(
            HOST, self.port, ssl=self.client_tls, server_hostname=HOST
        )
        writer.write(data)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        return answer


@asynccontextmanager
async def receiver(certificates: Certificates, *, status: int = 200) -> AsyncIterator[Site]:
    site = Site("", 0, ssl.create_default_context(cafile=certificates.ca_file))

    async def handle(request: Request) -> Answer:
        site.requests.append(request)
        return Answer(status, f"{len(request.body)} bytes" if status == 200 else "")

    tls = certificates.server_context()
    async with receiving(handle, host=HOST, port=0, tls=tls) as port:
        site.url, site.port = f"https://{HOST}:{port}", port
        yield site


@pytest.fixture
async def site(certificates: Certificates) -> AsyncIterator[Site]:
    async with receiver(certificates) as running:
        yield running


async def test_the_raw_body_and_the_headers_arrive(site: Site) -> None:
    async with site.client() as client:
        answer = await client.post("/x", content=b"\x00\xff raw", headers={"Webhook-Id": "e1"})
    assert (answer.status_code, answer.text) == (200, "6 bytes")
    [request] = site.requests
    assert request.body == b"\x00\xff raw"
    assert request.headers["webhook-id"] == "e1"


async def test_a_connection_is_kept(site: Site) -> None:
    one = httpx.Limits(max_connections=1)
    ports = set()
    async with httpx.AsyncClient(verify=site.client_tls, limits=one) as client:
        for _ in range(5):
            answer = await client.post(site.url, content=b"x")
            stream = answer.extensions["network_stream"]
            ports.add(stream.get_extra_info("client_addr"))
    assert (len(site.requests), len(ports)) == (5, 1)


async def test_a_hundred_connections_are_served_at_once(certificates: Certificates) -> None:
    everyone = asyncio.Barrier(100)

    async def handle(request: Request) -> Answer:
        await everyone.wait()  # opens only when a hundred requests are under way together
        return Answer(200, request.body.decode())

    client_tls = ssl.create_default_context(cafile=certificates.ca_file)
    tls = certificates.server_context()
    limits = httpx.Limits(max_connections=100)
    async with (
        receiving(handle, host=HOST, port=0, tls=tls) as port,
        httpx.AsyncClient(verify=client_tls, limits=limits, timeout=60) as client,
    ):
        url = f"https://{HOST}:{port}"
        answers = await asyncio.gather(
            *(client.post(url, content=str(number)) for number in range(100))
        )
    assert [answer.text for answer in answers] == [str(number) for number in range(100)]


@pytest.mark.parametrize("size", [0, 1, MAX_BODY_BYTES])
async def test_a_body_within_the_limit_is_taken(site: Site, size: int) -> None:
    async with site.client() as client:
        answer = await client.post("/", content=b"x" * size)
    assert answer.text == f"{size} bytes"


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_larger_body_is_refused_with_an_answer(site: Site, *, chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"x" * MAX_BODY_BYTES
        yield b"x"

    async with site.client() as client:
        content = parts() if chunked else b"x" * (MAX_BODY_BYTES + 1)
        answer = await client.post("/", content=content)
        assert (answer.status_code, answer.text) == (
            413,
            "The body is larger than 524288 bytes.\n",
        )
        assert (await client.post("/", content=b"ok")).status_code == 200
    assert len(site.requests) == 1


async def test_a_body_without_end_is_cut(site: Site) -> None:
    declared = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n"
    answer = await site.raw(declared + b"x" * (MAX_DISCARDED_BYTES + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_whoever_asks_for_consent_gets_it(site: Site) -> None:
    headers = {"WebHook-Request-Origin": "hooks.example.com"}
    async with site.client() as client:
        answer = await client.options("/x", headers=headers)
        not_asked = await client.options("/x")
    assert answer.status_code == 200
    consent = judge(answer.status_code, answer.headers.multi_items(), origin="hooks.example.com")
    assert consent == Consent("hooks.example.com")
    assert not_asked.status_code == 405
    assert site.requests == []


async def test_only_post_is_taken(site: Site) -> None:
    async with site.client() as client:
        answer = await client.get("/")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.text == "Send webhooks with POST, not GET.\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01 nonsense\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nhost: x\r\nx: " + b"y" * (2 * MAX_HEADER_BYTES), b"431"),
        (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", b"400"),
    ],
)
async def test_what_is_no_http_is_told_so(site: Site, data: bytes, status: bytes) -> None:
    answer = await site.raw(data)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"This is not valid HTTP" in answer


async def test_a_client_that_asks_first_is_told_to_go_on(site: Site) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n"
    reader, writer = await asyncio.open_connection(
        HOST, site.port, ssl=site.client_tls, server_hostname=HOST
    )
    writer.write(head + b"\r\n")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
    writer.write(b"ok")
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    writer.close()
    await writer.wait_closed()


@pytest.mark.parametrize("status", [204, 304, 410, 500, 503])
async def test_every_status_can_be_answered(certificates: Certificates, status: int) -> None:
    async with receiver(certificates, status=status) as site, site.client() as client:
        for _ in range(2):
            assert (await client.post("/", content=b"x")).status_code == status


async def test_the_end_cuts_open_connections(certificates: Certificates) -> None:
    async with receiver(certificates) as site:
        reader, writer = await asyncio.open_connection(
            HOST, site.port, ssl=site.client_tls, server_hostname=HOST
        )
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nhalf")
        await writer.drain()
    assert await reader.read() == b""
    writer.close()
