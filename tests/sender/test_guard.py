"""What is refused before anything is dialled."""

import ipaddress
import logging
from unittest.mock import patch

import pytest

from signalpost.domain.address import EgressPolicy, IpAddress
from signalpost.domain.outcome import AttemptResult, Outcome, Timings
from signalpost.sender.guard import Forbidden, Guard
from signalpost.sender.interfaces import Interfaces
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import DEVELOPMENT, NAME, Senders, webhook
from tests.sender.names import NameServer
from tests.sender.receivers import OK, Receivers, answering

UNSPECIFIED = "0.0.0.0"  # noqa: S104


def ips(*texts: str) -> list[IpAddress]:
    return [ipaddress.ip_address(text) for text in texts]


def assert_says_nothing(result: AttemptResult) -> None:
    assert result == AttemptResult(outcome=Outcome.FORBIDDEN, latency=result.latency)
    assert result.timings == Timings()


async def test_the_operator_learns_what_the_customer_does_not(
    sender: HttpSender, names: NameServer, caplog: pytest.LogCaptureFixture
) -> None:
    names.zone["inside.example"] = ["10.0.0.5"]
    result = await sender.send(webhook("https://inside.example/path?token=s3cret"))
    assert_says_nothing(result)
    [record] = [record for record in caplog.records if record.name == "signalpost.sender"]
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        "refused to connect to inside.example: the address is not public and not allowed"
    )
    assert (record.__dict__["address"], record.__dict__["port"]) == ("10.0.0.5", 443)
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "target", ["10.0.0.5", "169.254.169.254", "[::2]", "[fd00:ec2::254]", "192.168.1.1:8443"]
)
async def test_every_forbidden_target_looks_the_same(sender: HttpSender, target: str) -> None:
    assert_says_nothing(await sender.send(webhook(f"https://{target}/")))


async def test_one_refused_address_refuses_the_whole_answer(
    sender: HttpSender, receivers: Receivers, names: NameServer
) -> None:
    receiver = await receivers.start(answering(OK))
    names.zone["mixed.example"] = ["127.0.0.1", "10.0.0.5"]
    assert_says_nothing(await sender.send(webhook(f"https://mixed.example:{receiver.port}/")))
    result = await sender.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert receiver.connections == 1


async def test_loopback_is_refused_outside_of_development(
    senders: Senders, receivers: Receivers, names: NameServer
) -> None:
    receiver = await receivers.start(answering(OK))
    sender = senders.make(EgressPolicy())
    for host in ("127.0.0.1", "localhost", NAME, "[::1]", "[::ffff:127.0.0.1]"):
        assert_says_nothing(await sender.send(webhook(f"https://{host}:{receiver.port}/")))
    allowed = senders.make(EgressPolicy(allowed=(ipaddress.ip_network("127.0.0.1/32"),)))
    result = await allowed.send(webhook(f"http://127.0.0.1:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert receiver.connections == 1


@pytest.mark.parametrize("listening_on", ["127.0.0.1", UNSPECIFIED, "::"])
async def test_the_service_never_connects_to_itself(
    senders: Senders, receivers: Receivers, listening_on: str
) -> None:
    own = await receivers.start(answering(OK))
    other = await receivers.start(answering(OK))
    everything = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
    for policy in (DEVELOPMENT, EgressPolicy(allowed=everything, loopback=True)):
        sender = senders.make(policy, ((ipaddress.ip_address(listening_on), own.port),))
        for host in ("127.0.0.1", "127.0.0.2", "localhost", "[::1]", UNSPECIFIED):
            assert_says_nothing(await sender.send(webhook(f"http://{host}:{own.port}/")))
        result = await sender.send(webhook(f"http://127.0.0.1:{other.port}/"))
        assert result.outcome is Outcome.SUCCEEDED
    assert own.connections == 0


async def test_a_port_is_judged_whenever_it_is_dialled(
    senders: Senders, receivers: Receivers, names: NameServer
) -> None:
    names.zone["database.example"] = ["127.0.0.1"]
    usual = senders.make()
    for host in ("127.0.0.1", "database.example"):
        for port in (22, 25, 6379):
            assert_says_nothing(await usual.send(webhook(f"https://{host}:{port}/")))
    receiver, other = [await receivers.start(answering(OK)) for _ in range(2)]
    uri = f"http://127.0.0.1:{receiver.port}/"
    assert (await usual.send(webhook(uri))).outcome is Outcome.SUCCEEDED
    only = range(other.port, other.port + 1)
    narrow = senders.make(EgressPolicy(loopback=True, ports=(only,)))
    assert_says_nothing(await narrow.send(webhook(uri)))
    result = await narrow.send(webhook(f"http://127.0.0.1:{other.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert (receiver.connections, other.connections) == (1, 1)


async def test_a_subscription_narrows_where_its_events_go(
    sender: HttpSender, receivers: Receivers
) -> None:
    receiver = await receivers.start(answering(OK))
    uri = f"http://127.0.0.1:{receiver.port}/"
    inside = (ipaddress.ip_network("127.0.0.0/8"),)
    outside = (ipaddress.ip_network("8.8.8.0/24"), ipaddress.ip_network("10.0.0.0/8"))
    assert (await sender.send(webhook(uri, ranges=inside))).outcome is Outcome.SUCCEEDED
    # The connection that is kept for the wider range is not used either.
    assert_says_nothing(await sender.send(webhook(uri, ranges=outside)))
    assert_says_nothing(await sender.send(webhook("https://10.0.0.5/", ranges=outside)))


def test_a_mapped_address_is_dialled_as_what_was_judged() -> None:
    guard = Guard(EgressPolicy(), lambda: ())
    assert guard.judge("x", ips("::ffff:8.8.8.8", "2606:4700::1"), port=443) == ips(
        "8.8.8.8", "2606:4700::1"
    )


def test_this_machines_addresses_are_refused_unless_allowed() -> None:
    local = frozenset(ips("8.8.8.8", "127.0.0.1"))
    allowed = EgressPolicy(allowed=(ipaddress.ip_network("8.8.8.8/32"),))
    with patch.object(Interfaces, "addresses", lambda _: local):
        guard = Guard(EgressPolicy(loopback=True), lambda: ())
        with pytest.raises(Forbidden):
            guard.judge("x", ips("8.8.8.8"), port=443)
        assert guard.judge("x", ips("8.8.4.4"), port=443)
        assert guard.judge("x", ips("127.0.0.1"), port=443)
        assert Guard(allowed, lambda: ()).judge("x", ips("8.8.8.8"), port=443)
        listeners = [(ipaddress.ip_address("::"), 50051)]
        with pytest.raises(Forbidden):
            Guard(allowed, lambda: listeners).judge("x", ips("8.8.8.8"), port=50051)


def test_the_interfaces_of_this_machine_are_known() -> None:
    assert ipaddress.ip_address("127.0.0.1") in Interfaces().addresses()
