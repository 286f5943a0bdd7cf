"""A host with several addresses: one after the other is tried while there is time."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from signalpost.domain.address import IpAddress
from signalpost.domain.outcome import Outcome
from signalpost.sender import dialer
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import NAME, webhook
from tests.sender.names import NameServer
from tests.sender.receivers import OK, Receivers, answering, free_port


@contextmanager
def full_backlog(host: str, port: int) -> Iterator[None]:
    """Let a port answer no connection request any more."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex((host, port))
        yield


async def test_an_address_that_is_mute_leaves_time_for_the_next_however_little_there_is(
    sender: HttpSender, receivers: Receivers, names: NameServer
) -> None:
    mute, good = "127.0.0.1", "127.0.0.4"
    receiver = await receivers.start(answering(OK), host=good)
    names.zone[NAME] = [mute, good]
    with full_backlog(mute, receiver.port):
        result = await sender.send(webhook(f"http://{NAME}:{receiver.port}/", seconds=4))
    assert (result.outcome, result.error_code) == (Outcome.SUCCEEDED, "")
    assert result.remote_address == f"{good}:{receiver.port}"


async def test_after_an_address_that_refuses_the_next_is_tried(
    sender: HttpSender, receivers: Receivers, names: NameServer
) -> None:
    receiver = await receivers.start(answering(OK), host="127.0.0.4")
    names.zone[NAME] = ["127.0.0.1", "127.0.0.4"]
    result = await sender.send(webhook(f"http://{NAME}:{receiver.port}/"))
    assert result.outcome is Outcome.SUCCEEDED
    assert receiver.connections == 1


async def test_if_no_address_takes_it_the_failure_is_that_of_the_first(
    sender: HttpSender, names: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    dial = dialer._dial

    async def dial_unless_cut_off(address: IpAddress, port: int) -> socket.socket:
        if str(address) == "127.0.0.2":
            raise OSError(errno.EHOSTUNREACH, "No route to host")
        return await dial(address, port)

    monkeypatch.setattr(dialer, "_dial", dial_unless_cut_off)
    for zone, code in (
        (["127.0.0.1", "127.0.0.2"], "CONNECTION_REFUSED"),
        (["127.0.0.2", "127.0.0.3"], "UNREACHABLE"),
    ):
        names.zone[f"{code}.example".lower()] = list(zone)
        result = await sender.send(webhook(f"http://{code}.example:{free_port()}/"))
        assert (result.outcome, result.error_code) == (Outcome.CONNECTION_FAILED, code)
