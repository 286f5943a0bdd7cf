"""How failures are told apart."""

import asyncio
import datetime
import logging
import select
import socket
from collections.abc import Iterator
from unittest.mock import patch

import pytest

from signalpost import failpoints
from signalpost.domain.address import IpAddress
from signalpost.domain.outcome import Outcome
from signalpost.sender import dialer
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import NAME, webhook
from tests.sender.names import NameServer
from tests.sender.receivers import (
    OK,
    Behaviour,
    Conversation,
    Receivers,
    answering,
    deaf,
    free_port,
    saying,
    silent,
)

SHORT = 1.0
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
FUTURE = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
FAR_FUTURE = datetime.datetime(2101, 1, 1, tzinfo=datetime.UTC)


async def test_a_closed_port_is_refused(sender: HttpSender) -> None:
    port = free_port()
    result = await sender.send(webhook(f"http://127.0.0.1:{port}/"))
    assert result.outcome is Outcome.CONNECTION_FAILED
    assert result.error_code == "CONNECTION_REFUSED"
    assert result.error_message == "Connection refused"
    assert result.remote_address == f"127.0.0.1:{port}"
    assert result.timings.connect is not None
    assert result.timings.write is None


@pytest.mark.parametrize(
    ("behaviour", "code"),
    [
        (saying(b"", reset=True), "CONNECTION_RESET"),
        (saying(b""), "CONNECTION_CLOSED"),
        (saying(b"HTTP/1.1 200 O"), "CONNECTION_CLOSED"),
        (saying(b"HTTP/1.1 200 OK\r\nContent-Le"), "CONNECTION_CLOSED"),
    ],
)
async def test_a_connection_that_breaks_before_the_answer_is_lost(
    sender: HttpSender, receivers: Receivers, behaviour: Behaviour, code: str
) -> None:
    receiver = await receivers.start(behaviour)
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert (result.outcome, result.error_code) == (Outcome.CONNECTION_LOST, code)
    assert result.status_code == 0
    assert len(receiver.requests) == receiver.connections == 1


@pytest.mark.parametrize("end", ["closes", "resets"])
async def test_a_kept_connection_that_breaks_under_the_next_request_is_lost_not_repaired(
    sender: HttpSender, receivers: Receivers, end: str
) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        await conversation.say(OK)
        await conversation.read()
        if end == "resets":
            conversation.reset()

    receiver = await receivers.start(behave)
    first = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    second = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert first.outcome is Outcome.SUCCEEDED
    assert (second.outcome, second.error_code) == (Outcome.CONNECTION_LOST, "KEPT_CONNECTION_LOST")
    assert [request.connection for request in receiver.requests] == [1, 1]


async def test_a_kept_connection_that_breaks_in_its_answer_is_lost_like_any_other(
    sender: HttpSender, receivers: Receivers
) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        await conversation.say(OK)
        await conversation.read()
        await conversation.say(b"HTTP/1.1")

    receiver = await receivers.start(behave)
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    second = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert (second.outcome, second.error_code) == (Outcome.CONNECTION_LOST, "CONNECTION_CLOSED")
    assert [request.connection for request in receiver.requests] == [1, 1]


async def test_an_early_answer_to_a_body_that_is_not_taken_counts(
    sender: HttpSender, receivers: Receivers
) -> None:
    async def behave(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        await conversation.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        conversation.reset()

    receiver = await receivers.start(behave)
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert (result.outcome, result.status_code) == (Outcome.REJECTED, 413)


# Time.


async def test_a_name_server_that_is_silent_times_out(
    sender: HttpSender, names: NameServer
) -> None:
    names.zone["silent.example"] = None
    result = await sender.send(webhook("https://silent.example/", seconds=SHORT))
    assert (result.outcome, result.error_code) == (Outcome.TIMED_OUT, "DNS")
    assert names.asked["silent.example"]
    assert result.timings.dns is not None
    assert result.timings.connect is None


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """A port that answers no connection request any more."""
    waiting = []
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            client = socket.socket()
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
            waiting.append(client)
        yield listener.getsockname()[1]
        for client in waiting:
            client.close()


async def test_an_endpoint_that_does_not_accept_times_out(
    sender: HttpSender, full_backlog: int
) -> None:
    with patch.object(dialer, "CONNECT_SECONDS", 0.2):
        result = await sender.send(webhook(f"http://127.0.0.1:{full_backlog}/", seconds=30))
    assert (result.outcome, result.error_code) == (Outcome.TIMED_OUT, "CONNECT")
    result = await sender.send(webhook(f"http://127.0.0.1:{full_backlog}/", seconds=SHORT))
    assert (result.outcome, result.error_code) == (Outcome.TIMED_OUT, "CONNECT")
    assert result.timings.connect is not None


@pytest.mark.parametrize("budget", [0.2, 10.0])
async def test_a_handshake_that_stalls_fails_within_the_budget_of_connecting_and_the_attempts(
    sender: HttpSender, receivers: Receivers, budget: float
) -> None:
    receiver = await receivers.start(silent)
    seconds = SHORT if budget > SHORT else 30.0
    with patch.object(dialer, "CONNECT_SECONDS", budget):
        result = await sender.send(webhook(f"https://{NAME}:{receiver.port}/", seconds=seconds))
    assert (result.outcome, result.error_code) == (Outcome.TLS_FAILED, "HANDSHAKE_TIMEOUT")
    assert result.timings.tls is not None
    assert result.timings.write is None
    assert await receiver.closed.get() == 1


async def test_an_endpoint_that_does_not_read_times_out(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(deaf)
    endpoint = f"http://127.0.0.1:{receiver.port}/"
    result = await sender.send(webhook(endpoint, body=b"x" * 32_000_000, seconds=SHORT))
    assert (result.outcome, result.error_code) == (Outcome.TIMED_OUT, "WRITE")
    assert result.timings.write is not None
    assert result.timings.wait is None


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (silent, (Outcome.TIMED_OUT, "WAIT")),
        (
            saying(b"", then_repeat=b"HTTP/1.1 102 Processing\r\n\r\n"),
            (Outcome.TIMED_OUT, "WAIT"),
        ),
        (
            saying(b"HTTP/1.1 200 OK\r\n", then_repeat=b"X: %b\r\n" % (b"y" * 1000)),
            (Outcome.PROTOCOL_ERROR, "INVALID_RESPONSE"),
        ),
    ],
    ids=["silence", "interim answers for ever", "headers for ever"],
)
async def test_an_endpoint_that_never_answers_leaves_no_connection(
    sender: HttpSender,
    receivers: Receivers,
    behaviour: Behaviour,
    expected: tuple[Outcome, str],
) -> None:
    receiver = await receivers.start(behaviour)
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/", seconds=SHORT))
    assert (result.outcome, result.error_code) == expected
    assert await receiver.closed.get() == 1


@pytest.mark.parametrize("scheme", ["https", "http"])
async def test_a_descriptor_that_the_loop_closed_is_not_closed_once_more(
    sender: HttpSender, receivers: Receivers, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """By then it may be that of another connection, or of the database."""
    dial, dialled = dialer._dial, list[socket.socket]()

    async def reset_at_once(conversation: Conversation) -> None:
        conversation.reset()

    async def dial_and_be_reset(address: IpAddress, port: int) -> socket.socket:
        connected = await dial(address, port)
        seen = select.poll()
        seen.register(connected, select.POLLERR)
        while not seen.poll(0):  # noqa: ASYNC110 - the system has no event for it
            await asyncio.sleep(0)
        dialled.append(connected)
        return connected

    receiver = await receivers.start(reset_at_once)
    monkeypatch.setattr(dialer, "_dial", dial_and_be_reset)
    result = await sender.send(webhook(f"{scheme}://127.0.0.1:{receiver.port}/"))
    assert result.outcome in {Outcome.TLS_FAILED, Outcome.CONNECTION_LOST}
    [left] = dialled
    assert left.fileno() == -1


async def test_cancelling_an_attempt_closes_its_connection(
    sender: HttpSender, receivers: Receivers
) -> None:
    arrived = asyncio.Event()

    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        arrived.set()
        await conversation.reader.read()

    receiver = await receivers.start(behave)
    attempt = asyncio.create_task(sender.send(webhook(f"http://127.0.0.1:{receiver.port}/")))
    await arrived.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert await receiver.closed.get() == 1


# Ourselves.


async def test_a_fault_in_the_middle_of_the_body_is_a_result_and_logged(
    sender: HttpSender,
    receivers: Receivers,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arrived = asyncio.Queue[bytes]()

    async def behave(conversation: Conversation) -> None:
        await conversation.reader.readuntil(b"\r\n\r\n")
        arrived.put_nowait(await conversation.reader.read())

    receiver = await receivers.start(behave)
    monkeypatch.setitem(failpoints._armed, "http.mid_body", "raise")
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/", body=b"0123456789"))
    assert (result.outcome, result.error_code) == (Outcome.CONNECTION_LOST, "INTERNAL")
    assert await arrived.get() == b"01234"
    [record] = [record for record in caplog.records if record.name == "signalpost.sender"]
    assert record.levelno == logging.ERROR
    assert record.exc_info


async def test_a_header_that_cannot_be_sent_is_not_repeated_anywhere(
    sender: HttpSender, receivers: Receivers, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = await receivers.start(answering(OK))
    request = webhook(f"http://127.0.0.1:{receiver.port}/", headers={"X-Key": "s3cret\r\nX: y"})
    result = await sender.send(request)
    assert (result.outcome, result.error_code) == (Outcome.CONNECTION_LOST, "INTERNAL")
    assert receiver.requests == []
    assert "s3cret" not in repr(result) + caplog.text + repr(request)
