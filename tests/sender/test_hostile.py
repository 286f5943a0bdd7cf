"""Every hostile receiver of the table, by the whole sender, over real sockets."""

import asyncio

import pytest

from signalpost.domain.outcome import MAX_RESPONSE_KEPT
from signalpost.sender.connection import Connection
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import NAME, webhook
from tests.sender.hostile import HOSTILE, Hostile
from tests.sender.receivers import Receivers

LONG = 30.0
"""Time of an attempt that ends by itself: reaching it is a failure."""


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.does)
async def test_an_attempt_at_a_hostile_receiver_ends_as_it_must(
    sender: HttpSender, receivers: Receivers, case: Hostile
) -> None:
    receiver = await receivers.start(case.behave)
    scheme, host = ("https", NAME) if case.tls else ("http", "127.0.0.1")
    request = webhook(
        f"{scheme}://{host}:{receiver.port}/",
        body=b"x" * case.request_bytes,
        seconds=case.seconds or LONG,
    )
    async with asyncio.timeout(LONG / 2):
        result = await sender.send(request)
    if (result.outcome, result.error_code) != case.otherwise:
        outcome, code = case.expected
        assert result.outcome is outcome
        assert result.error_code in code.split(" or ")
    assert result.status_code == case.status
    assert result.response_body.startswith(case.body)
    assert len(result.response_body) <= MAX_RESPONSE_KEPT
    assert result.response_truncated is case.truncated
    assert (len(receiver.requests), receiver.connections) == (case.requests, 1)
    if case.notices_the_end and not case.kept:
        assert await receiver.closed.get() == 1
    # Nobody gets this connection any more.
    assert len(reusable(sender)) == case.kept


def reusable(sender: HttpSender) -> list[Connection]:
    return [kept for kept in sender._transport._pool._oldest_first if kept.is_reusable()]
