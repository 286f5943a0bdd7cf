"""A conversation of any course: every result belongs to its event, no connection says it twice.

The endpoint is a real one on loopback. It answers in any portions, with more than was asked for,
with nonsense, too late, unasked, or not at all.
"""

import asyncio
import itertools
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import uvloop
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from signalpost.domain.address import EgressPolicy
from signalpost.domain.outcome import MAX_RESPONSE_KEPT, AttemptResult, outcome_of_status
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender
from tests.sender.conftest import webhook

T = TypeVar("T")
GUARD = 20.0


@dataclass(frozen=True)
class Said:
    """A valid answer, but for what ties it to its event."""

    status: int
    body: bytes
    framing: str
    is_last: bool

    def encoded(self, number: int) -> bytes:
        body = self.whole_body(number)
        lines = [b"HTTP/1.1 %d X" % self.status]
        if self.is_last:
            lines.append(b"Connection: close")
        if self.framing == "length":
            lines.append(b"Content-Length: %d" % len(body))
        else:
            lines.append(b"Transfer-Encoding: chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        return b"\r\n".join([*lines, b"", body])

    def whole_body(self, number: int) -> bytes:
        return b"event %d %b" % (number, self.body)


answers = st.builds(
    Said,
    status=st.sampled_from([200, 202, 302, 410, 429, 500]),
    body=st.binary(max_size=5000),
    framing=st.sampled_from(["length", "chunked"]),
    is_last=st.booleans(),
)
cuts = st.lists(st.integers(0, 6000), max_size=6)
more = st.one_of(
    st.binary(min_size=1, max_size=50),
    st.just(b"\r\n"),
    st.just(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
)


class Line(asyncio.Protocol):
    """One connection, seen from the endpoint. What is `spoilt` must carry no further request."""

    def __init__(self, arrived: "asyncio.Queue[tuple[Line, int]]") -> None:
        self.spoilt = False
        self._arrived = arrived
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connected = transport.get_extra_info("socket")
        self.raw = socket.socket(fileno=os.dup(connected.fileno()))

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head, self._buffer = self._buffer[:end], self._buffer[end + 4 :]
            number = int(head.partition(b"\r\nnumber: ")[2].partition(b"\r\n")[0])
            self._arrived.put_nowait((self, number))

    def say(self, data: bytes) -> None:
        """Have it in the client's socket at once, whatever the loop does, if that is open."""
        with suppress(OSError):
            self.raw.send(data)

    def hang_up(self) -> None:
        with suppress(OSError):
            self.raw.shutdown(socket.SHUT_WR)


class Conversation(RuleBasedStateMachine):
    """`line` carries the attempt under way; `kept` is what the next one must use."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        super().__init__()
        self.loop = uvloop.new_event_loop()
        self.arrived: asyncio.Queue[tuple[Line, int]] = asyncio.Queue()
        self.number = 0
        self.attempt: asyncio.Task[AttemptResult] | None = None
        self.line: Line | None = None
        self.kept: Line | None = None
        self.lines: set[Line] = set()
        self.run(self._start())

    async def _start(self) -> None:
        self.server = await self.loop.create_server(lambda: Line(self.arrived), "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        self.sender = HttpSender(
            policy=EgressPolicy(loopback=True), own_listeners=lambda: (), resolver=Resolver([])
        )

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(work, GUARD))

    def teardown(self) -> None:
        if self.attempt is not None:
            self.give_up()
        self.run(self.sender.aclose())
        for line in self.lines:
            line.raw.close()
        self.server.close()
        self.run(self.server.wait_closed())
        self.loop.close()

    def end(self) -> AttemptResult:
        assert self.attempt is not None
        result = self.run(asyncio.wait_for(self.attempt, GUARD))
        self.attempt = None
        return result

    def spoil(self) -> None:
        line = self.line or self.kept
        assert line is not None
        line.spoilt = True
        self.line = self.kept = None

    async def _say(self, line: Line, portions: list[bytes]) -> None:
        for portion in portions:
            line.say(portion)
            await asyncio.sleep(0)

    @precondition(lambda self: self.attempt is None)
    @rule()
    def send(self) -> None:
        self.number += 1
        request = webhook(
            f"http://127.0.0.1:{self.port}/", headers={"number": str(self.number)}, body=b""
        )
        self.attempt = self.loop.create_task(self.sender.send(request))
        line, number = self.run(self.arrived.get())
        assert number == self.number
        assert not line.spoilt
        assert self.kept in {None, line}
        self.line, self.kept = line, None
        self.lines.add(line)

    @precondition(lambda self: self.line is not None)
    @rule(said=answers, at=cuts)
    def answer(self, said: Said, at: list[int]) -> None:
        assert self.line
        whole = said.encoded(self.number)
        places = [0, *sorted(min(cut, len(whole)) for cut in at), len(whole)]
        self.run(self._say(self.line, [whole[a:b] for a, b in itertools.pairwise(places) if a < b]))
        self.check(self.end(), said)
        if said.is_last:
            self.spoil()
        else:
            self.line, self.kept = None, self.line

    @precondition(lambda self: self.line is not None)
    @rule(said=answers, surplus=more)
    def answer_and_say_more(self, said: Said, surplus: bytes) -> None:
        assert self.line
        self.line.say(said.encoded(self.number) + surplus)
        self.check(self.end(), said)
        self.spoil()

    def check(self, result: AttemptResult, said: Said) -> None:
        body = said.whole_body(self.number)
        assert result.outcome is outcome_of_status(said.status)
        assert (result.status_code, result.error_code) == (said.status, "")
        assert result.response_body == body[:MAX_RESPONSE_KEPT]
        assert result.response_truncated is (len(body) > MAX_RESPONSE_KEPT)

    @precondition(lambda self: self.line is not None)
    @rule(portions=st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=5))
    def talk_nonsense(self, portions: list[bytes]) -> None:
        assert self.line
        assert self.attempt
        self.run(self._say(self.line, portions))
        self.line.hang_up()
        result = self.end()
        assert result.error_code in {"INVALID_RESPONSE", "CONNECTION_CLOSED"}
        self.spoil()

    @precondition(lambda self: self.line is not None)
    @rule()
    def give_up(self) -> None:
        """As at the end of its time."""
        assert self.attempt
        self.attempt.cancel()
        self.run(asyncio.wait_for(asyncio.gather(self.attempt, return_exceptions=True), GUARD))
        self.attempt = None
        self.spoil()

    @precondition(lambda self: self.kept is not None)
    @rule(said=more)
    def say_something_unasked(self, said: bytes) -> None:
        assert self.kept
        self.kept.say(said)
        self.spoil()

    @precondition(lambda self: self.kept is not None)
    @rule()
    def hang_up_unasked(self) -> None:
        assert self.kept
        self.kept.hang_up()
        self.spoil()

    @precondition(lambda self: any(line.spoilt for line in self.lines))
    @rule(said=answers)
    def answer_too_late(self, said: Said) -> None:
        """Answer what was given up, or what others were asked, on a connection of before."""
        for line in self.lines:
            if line.spoilt:
                line.say(said.encoded(self.number))

    @invariant()
    def nobody_else_was_asked(self) -> None:
        assert self.arrived.empty()


TestConversation = Conversation.TestCase
TestConversation.settings = settings(stateful_step_count=30)
