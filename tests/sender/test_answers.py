"""What answers mean, and what goes over the wire."""

import gzip
import ssl
from http import HTTPStatus
from itertools import product

import pytest

from signalpost.domain.outcome import MAX_RESPONSE_KEPT, Outcome
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import NAME, webhook
from tests.sender.receivers import OK, Conversation, Receivers, answering, saying


def answer(status: int, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def test_every_status_is_taken_or_rejected(sender: HttpSender, receivers: Receivers) -> None:
    statuses = range(200, 600)
    bodyless = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
    receiver = await receivers.start(
        answering(*(answer(status, b"" if status in bodyless else b"text") for status in statuses))
    )
    for status in statuses:
        result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
        expected = Outcome.SUCCEEDED if status < 300 else Outcome.REJECTED
        assert (result.status_code, result.outcome) == (status, expected)
        assert (result.error_code, result.error_message) == ("", "")
    assert len(receiver.requests) == len(statuses)
    assert receiver.connections == 1


async def test_the_request_is_complete_and_framed_by_its_length(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(answering(OK))
    result = await sender.send(
        webhook(
            f"http://localhost:{receiver.port}/a%2Fb//c?d=%7e&e",
            headers={"User-Agent": "Signalpost/1", "X-Key": "k", "webhook-id": "evt_1"},
            body=b'{"a":1}',
        )
    )
    assert result.outcome is Outcome.SUCCEEDED
    [request] = receiver.requests
    assert request.head.split("\r\n") == [
        "POST /a%2Fb//c?d=%7e&e HTTP/1.1",
        f"host: localhost:{receiver.port}",
        "content-type: application/json",
        "accept-encoding: identity",
        "User-Agent: Signalpost/1",
        "X-Key: k",
        "webhook-id: evt_1",
        "content-length: 7",
    ]
    assert request.body == b'{"a":1}'


@pytest.mark.parametrize("size", [0, 1, 256 * 1024])
async def test_a_body_of_any_size_arrives_whole(
    sender: HttpSender, receivers: Receivers, size: int
) -> None:
    receiver = await receivers.start(answering(OK))
    body = bytes(number % 251 for number in range(size))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/", body=body))
    assert result.outcome is Outcome.SUCCEEDED
    assert receiver.requests[0].body == body
    assert receiver.requests[0].headers["content-length"] == str(size)
    assert "transfer-encoding" not in receiver.requests[0].headers


async def test_an_answer_is_recorded(sender: HttpSender, receivers: Receivers) -> None:
    receiver = await receivers.start(answering(answer(503, b"\xff\x00\x1b[31m", "Retry-After: 7")))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.REJECTED
    assert result.response_body == b"\xff\x00\x1b[31m"
    assert not result.response_truncated
    assert result.retry_after == "7"
    assert result.remote_address == f"127.0.0.1:{receiver.port}"
    assert result.timings.dns is None
    assert result.timings.tls is None
    for phase in (result.timings.connect, result.timings.write, result.timings.wait):
        assert phase is not None
        assert phase <= result.latency


async def test_four_kilobytes_of_a_body_are_kept(sender: HttpSender, receivers: Receivers) -> None:
    body = b"x" * MAX_RESPONSE_KEPT
    receiver = await receivers.start(answering(answer(200, body), answer(200, body + b"y")))
    request = webhook(f"http://127.0.0.1:{receiver.port}/")
    whole, cut = await sender.send(request), await sender.send(request)
    assert (whole.response_body, whole.response_truncated) == (body, False)
    assert (cut.response_body, cut.response_truncated) == (body, True)


async def test_a_packed_body_stays_packed(sender: HttpSender, receivers: Receivers) -> None:
    packed = gzip.compress(b"0" * 1_000_000)
    receiver = await receivers.start(answering(answer(200, packed, "Content-Encoding: gzip")))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert result.response_body == packed[:MAX_RESPONSE_KEPT]


REDIRECTS = (301, 302, 303, 305, 307, 308)
PLACES = (
    "http://127.0.0.1:{other}/",
    "https://127.0.0.1:{other}/",
    "//127.0.0.1:{other}/",
    "http://169.254.169.254/latest/meta-data/",
    "https://{name}:{own}/",
    "/",
    "?again",
)


@pytest.mark.parametrize("redirection", [*product(REDIRECTS, PLACES)])
async def test_a_redirect_is_not_followed(
    sender: HttpSender,
    receivers: Receivers,
    tls: ssl.SSLContext,
    caplog: pytest.LogCaptureFixture,
    redirection: tuple[int, str],
) -> None:
    status, place = redirection
    other = await receivers.start(answering(OK))
    said: list[bytes] = []

    async def redirect(conversation: Conversation) -> None:
        while await conversation.read():
            await conversation.say(*said)

    receiver = await receivers.start(redirect, tls=tls)
    location = place.format(other=other.port, own=receiver.port, name=NAME)
    said.append(answer(status, b"", f"Location: {location}"))
    result = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    assert (result.outcome, result.status_code) == (Outcome.REJECTED, status)
    assert (len(receiver.requests), receiver.connections, other.connections) == (1, 1, 0)
    # Nor was it tried, and refused.
    assert caplog.records == []
    assert (await sender.send(webhook(f"http://127.0.0.1:{other.port}/"))).status_code == 200
    assert other.connections == 1


async def test_a_cookie_does_not_come_back(sender: HttpSender, receivers: Receivers) -> None:
    receiver = await receivers.start(answering(answer(200, b"", "Set-Cookie: a=b; Path=/")))
    for _ in range(2):
        await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert len(receiver.requests) == 2
    assert all("cookie" not in request.headers for request in receiver.requests)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"drip", id="endless chunks"),
        pytest.param(b"", id="never ends"),
    ],
)
async def test_the_status_line_decides_whatever_the_body_does(
    sender: HttpSender, receivers: Receivers, status: int, body: bytes
) -> None:
    head = f"HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n".encode()
    chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
    behaviour = saying(head, then_repeat=chunk) if chunk else answering(head)
    receiver = await receivers.start(behaviour)
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    expected = Outcome.SUCCEEDED if status == 200 else Outcome.REJECTED
    assert (result.outcome, result.status_code) == (expected, status)
    assert result.response_body.startswith(b"first")
    assert result.response_truncated
    assert await receiver.closed.get() == 1


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000000\r\n\r\npart",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\nnonsense\r\n",
    ],
)
async def test_a_body_that_breaks_off_does_not_undo_success(
    sender: HttpSender, receivers: Receivers, said: bytes
) -> None:
    receiver = await receivers.start(saying(said))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert b"part".startswith(result.response_body)
    assert result.response_truncated


async def test_a_body_until_the_end_of_the_connection_is_read_whole(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(saying(b"HTTP/1.1 200 OK\r\n\r\nall of it"))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert (result.response_body, result.response_truncated) == (b"all of it", False)


async def test_interim_answers_are_skipped(sender: HttpSender, receivers: Receivers) -> None:
    receiver = await receivers.start(answering(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert (result.outcome, result.status_code) == (Outcome.SUCCEEDED, 200)


@pytest.mark.parametrize(
    "said",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n",
        b"HTTP/1.1 999 X\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000,
        b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" * 20,
    ],
)
async def test_what_is_not_http_is_a_protocol_error_that_quotes_nothing(
    sender: HttpSender, receivers: Receivers, said: bytes
) -> None:
    receiver = await receivers.start(answering(said))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.PROTOCOL_ERROR
    assert (result.error_code, result.status_code) == ("INVALID_RESPONSE", 0)
    assert result.error_message == "the answer is not HTTP/1.1"
    assert result.response_body == b""
    assert await receiver.closed.get() == 1
