"""When a connection is kept, and for whom."""

import asyncio
import ssl
from pathlib import Path
from unittest.mock import patch

import pytest

from signalpost.domain.outcome import Outcome
from signalpost.sender import connection, pool
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import DEVELOPMENT, NAME, webhook
from tests.sender.receivers import OK, Conversation, Receivers, answering, saying


async def test_a_connection_read_to_the_end_of_its_answer_is_used_again(
    sender: HttpSender, receivers: Receivers, tls: ssl.SSLContext
) -> None:
    receiver = await receivers.start(answering(OK), tls=tls)
    first = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    second = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    assert first.timings.dns is not None
    assert first.timings.connect is not None
    assert first.timings.tls is not None
    assert second.outcome is Outcome.SUCCEEDED
    assert (second.timings.dns, second.timings.connect, second.timings.tls) == (None, None, None)
    assert second.timings.wait is not None
    assert second.remote_address == first.remote_address == f"127.0.0.1:{receiver.port}"
    assert [request.connection for request in receiver.requests] == [1, 1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(
    "unread",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
    ],
    ids=["too long", "cut short", "asked to close"],
)
async def test_a_connection_that_may_hold_more_is_closed(
    sender: HttpSender, receivers: Receivers, unread: bytes
) -> None:
    receiver = await receivers.start(answering(unread))
    for _ in range(2):
        result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
        assert result.outcome is Outcome.SUCCEEDED
    assert [request.connection for request in receiver.requests] == [1, 2]


async def test_a_connection_that_still_owes_an_answer_is_closed(
    sender: HttpSender, receivers: Receivers
) -> None:
    async def behave(conversation: Conversation) -> None:
        await answering(b"" if conversation.number == 1 else OK)(conversation)

    receiver = await receivers.start(behave)
    unanswered = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/", seconds=1))
    assert unanswered.outcome is Outcome.TIMED_OUT
    assert await receiver.closed.get() == 1
    next_one = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert next_one.outcome is Outcome.SUCCEEDED
    assert [request.connection for request in receiver.requests] == [1, 2]


async def test_a_connection_on_which_something_arrived_unasked_is_not_used_again(
    sender: HttpSender, receivers: Receivers
) -> None:
    answered, spoken = asyncio.Event(), asyncio.Event()

    async def behave(conversation: Conversation) -> None:
        await conversation.read()
        await conversation.say(OK)
        await answered.wait()
        await conversation.say(OK)
        spoken.set()
        await conversation.read()

    receiver = await receivers.start(behave)
    first = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    answered.set()
    await spoken.wait()
    second = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert first.outcome is second.outcome is Outcome.SUCCEEDED
    assert [request.connection for request in receiver.requests] == [1, 2]


async def test_concurrent_requests_take_connections_of_their_own_and_keep_some(
    sender: HttpSender, receivers: Receivers
) -> None:
    everyone = asyncio.Barrier(40)

    async def behave(conversation: Conversation) -> None:
        while await conversation.read():
            await everyone.wait()
            await conversation.say(OK)

    receiver = await receivers.start(behave)
    uri = f"http://127.0.0.1:{receiver.port}/"
    with patch.object(pool, "MAX_IDLE_PER_ENDPOINT", 32):
        for connections in (40, 48):
            results = await asyncio.gather(*(sender.send(webhook(uri)) for _ in range(40)))
            assert {result.outcome for result in results} == {Outcome.SUCCEEDED}
            assert receiver.connections == connections


async def test_a_connection_closed_by_the_endpoint_is_not_used_again(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(saying(OK))
    for expected in (1, 2):
        result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
        assert result.outcome is Outcome.SUCCEEDED
        assert await receiver.closed.get() == expected
    assert [request.connection for request in receiver.requests] == [1, 2]


async def test_an_old_connection_is_not_used_again(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(answering(OK))
    with patch.object(connection, "MAX_AGE_SECONDS", 0.0):
        await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert [request.connection for request in receiver.requests] == [1, 2, 2]


@pytest.mark.parametrize(("waited", "connections"), [(3.0, [1, 1]), (4.5, [1, 2])])
async def test_a_connection_waits_no_longer_than_its_endpoint_says_it_keeps_it(
    sender: HttpSender, receivers: Receivers, waited: float, connections: list[int]
) -> None:
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=5\r\n\r\n"
    receiver = await receivers.start(answering(said))
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    for kept in sender._transport._pool._oldest_first:
        kept._idle_since -= waited
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert [request.connection for request in receiver.requests] == connections


async def test_lanes_do_not_share_connections(sender: HttpSender, receivers: Receivers) -> None:
    receiver = await receivers.start(answering(OK))
    for lane in (1, 2, 1, 2):
        await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/", lane=lane))
    assert [request.connection for request in receiver.requests] == [1, 2, 1, 2]


async def test_unused_connections_are_closed(sender: HttpSender, receivers: Receivers) -> None:
    receiver = await receivers.start(answering(OK))
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    sender.run_once()
    assert receiver.closed.empty()
    with patch.object(connection, "IDLE_SECONDS", 0.0):
        sender.run_once()
    assert await receiver.closed.get() == 1


async def test_a_bounded_number_of_connections_waits(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(answering(OK))
    sender._transport._pool = pool.Pool(max_idle=2)
    for lane in (1, 2, 1, 3, 1):
        await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/", lane=lane))
    assert await receiver.closed.get() == 2
    assert receiver.closed.empty()
    assert [request.connection for request in receiver.requests] == [1, 2, 1, 3, 1]


async def test_closing_the_sender_closes_its_connections(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(answering(OK))
    await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    await sender.aclose()
    assert await receiver.closed.get() == 1


async def test_proxies_of_the_environment_are_ignored(
    sender: HttpSender, receivers: Receivers, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = await receivers.start(answering(OK))
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{canary.port}")
        monkeypatch.setenv(name.lower(), f"http://127.0.0.1:{canary.port}")
    receiver = await receivers.start(answering(OK))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert (len(receiver.requests), canary.connections) == (1, 0)


async def test_the_endpoints_name_is_shown_and_its_address_dialled(
    sender: HttpSender, receivers: Receivers, tls: ssl.SSLContext
) -> None:
    receiver = await receivers.start(answering(OK), tls=tls)
    result = await sender.send(webhook(f"https://{NAME}:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert receiver.server_names == [NAME]
    assert receiver.requests[0].headers["host"] == f"{NAME}:{receiver.port}"


async def test_other_rules_end_kept_connections_and_those_in_use_after_their_answer(
    sender: HttpSender, receivers: Receivers, ca_file: Path
) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def held(conversation: Conversation) -> None:
        while await conversation.read():
            asked.set()
            await answer.wait()
            await conversation.say(OK)

    keeping, holding = await receivers.start(answering(OK)), await receivers.start(held)
    kept, in_use = (webhook(f"http://127.0.0.1:{at.port}/") for at in (keeping, holding))
    for _ in range(2):
        assert (await sender.send(kept)).outcome is Outcome.SUCCEEDED
    assert keeping.connections == 1
    sending = asyncio.create_task(sender.send(in_use))
    await asked.wait()
    await sender.adopt(DEVELOPMENT, ca_file=ca_file)
    answer.set()
    assert (await sending).outcome is Outcome.SUCCEEDED
    for request, receiver in ((kept, keeping), (in_use, holding)):
        assert (await sender.send(request)).outcome is Outcome.SUCCEEDED
        assert receiver.connections == 2
    assert (await sender.send(kept)).outcome is Outcome.SUCCEEDED
    assert keeping.connections == 2
