"""OPTIONS requests: what is on the wire, and what is told of the answer."""

import ssl
from ipaddress import ip_network

import pytest

from signalpost.domain.address import EgressPolicy
from signalpost.domain.outcome import Outcome
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import NAME, Senders, webhook
from tests.sender.receivers import OK, Receivers, answering

AGREED = (
    b"HTTP/1.1 204 No Content\r\nWebHook-Allowed-Origin: a.example\r\n"
    b"X: \xe9\r\nx: 2\r\nWebHook-Allowed-Rate: 7\r\n\r\n"
)


async def test_the_request_is_one_without_a_body_and_the_headers_come_back(
    sender: HttpSender, receivers: Receivers, tls: ssl.SSLContext
) -> None:
    receiver = await receivers.start(answering(AGREED), tls=tls)
    uri = f"https://{NAME}:{receiver.port}/in?a=1"
    answer = await sender.options(
        webhook(uri, headers={"webhook-request-origin": "a.example"}, body=b"")
    )
    assert (answer.result.outcome, answer.result.status_code) == (Outcome.SUCCEEDED, 204)
    assert answer.result.timings.tls is not None
    assert sorted(answer.headers) == [
        ("webhook-allowed-origin", "a.example"),
        ("webhook-allowed-rate", "7"),
        ("x", "2"),
        ("x", "é"),
    ]
    [request] = receiver.requests
    assert request.head.split("\r\n")[0] == "OPTIONS /in?a=1 HTTP/1.1"
    assert request.headers["host"] == f"{NAME}:{receiver.port}"
    assert request.headers["webhook-request-origin"] == "a.example"
    assert (request.headers["content-length"], request.body) == ("0", b"")


async def test_its_connection_is_for_nothing_else(
    sender: HttpSender, receivers: Receivers, tls: ssl.SSLContext
) -> None:
    receiver = await receivers.start(answering(OK), tls=tls)
    uri = f"https://{NAME}:{receiver.port}/"
    await sender.send(webhook(uri, lane=0))
    await sender.options(webhook(uri, lane=0, body=b""))
    assert await receiver.closed.get() == 2
    await sender.options(webhook(uri, lane=0, body=b""))
    await sender.send(webhook(uri, lane=0))
    assert [request.connection for request in receiver.requests] == [1, 2, 3, 1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer(
    sender: HttpSender, receivers: Receivers, status: int
) -> None:
    other = await receivers.start(answering(OK))
    to = f"http://127.0.0.1:{other.port}/"
    moved = f"HTTP/1.1 {status} Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n"
    receiver = await receivers.start(answering(moved.encode()))
    answer = await sender.options(webhook(f"http://127.0.0.1:{receiver.port}/", body=b""))
    assert (answer.result.outcome, answer.result.status_code) == (Outcome.REJECTED, status)
    assert ("location", to) in answer.headers
    assert (len(receiver.requests), other.connections) == (1, 0)


async def test_without_an_answer_there_are_no_headers(
    senders: Senders, receivers: Receivers
) -> None:
    receiver = await receivers.start(answering(b""))
    uri = f"http://{NAME}:{receiver.port}/"
    silent = await senders.make().options(webhook(uri, body=b"", seconds=1))
    assert (silent.result.outcome, list(silent.headers)) == (Outcome.TIMED_OUT, [])
    assert await receiver.closed.get() == 1


@pytest.mark.parametrize("limited", [True, False])
async def test_a_forbidden_address_is_not_dialled(
    senders: Senders, receivers: Receivers, tls: ssl.SSLContext, *, limited: bool
) -> None:
    receiver = await receivers.start(answering(AGREED), tls=tls)
    uri = f"https://{NAME}:{receiver.port}/"
    allowed = senders.make()
    assert (await allowed.options(webhook(uri, body=b""))).result.status_code == 204
    sender = allowed if limited else senders.make(EgressPolicy())
    ranges = (ip_network("203.0.113.0/24"),) if limited else ()
    answer = await sender.options(webhook(uri, body=b"", ranges=ranges))
    assert answer.result.outcome is Outcome.FORBIDDEN
    assert (answer.result.error_code, answer.result.remote_address) == ("", "")
    assert list(answer.headers) == []
    assert receiver.connections == 1
