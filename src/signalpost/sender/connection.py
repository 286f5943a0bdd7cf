"""A connection to an endpoint: one request at a time, written once, and its answer read."""

from __future__ import annotations

import asyncio
import select
import ssl
from collections.abc import Iterator
from typing import Final, cast

from signalpost import failpoints
from signalpost.sender.answer import Answer, NotHttp
from signalpost.sender.failure import (
    SendFailed,
    closed_unanswered,
    connection_lost,
    kept_connection_lost,
    not_http,
    timed_out,
)
from signalpost.sender.tls import tls_broken
from signalpost.sender.trail import Phase, Trail

IDLE_SECONDS: Final = 30.0
"""How long a connection waits for its next request, unless its endpoint allows less."""

MAX_AGE_SECONDS: Final = 60.0
"""Oldest connection that gets another request."""

_PORTION: Final = 64 * 1024
"""Most bytes of a request that wait to be taken by the system, or lie encrypted."""


class Connection(asyncio.Protocol):
    """Speaks HTTP/1.1 as a client. Whoever holds it makes one exchange after the other.

    `peer` is the address and port it goes to, `exchanges` how many were begun.
    """

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None
        self._trail: Trail | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._failure: SendFailed | None = None
        self._is_writing = False
        self._is_unwritten = False
        self._is_open = False
        self._poll: select.poll | None = None
        self.exchanges = 0
        self._made_at = self._loop.time()
        self._idle_since = self._made_at
        self._idle_limit = IDLE_SECONDS

    async def exchange(self, head: bytes, body: bytes, *, trail: Trail) -> Answer:
        """Write a request and return its answer once the head of that is there.

        Raises SendFailed. Whatever happens, the request is not written again.
        """
        trail.peer = self.peer
        self.exchanges += 1
        self._answer, self._trail = Answer(), trail
        trail.begin(Phase.WRITE)
        # By itself, for a timeout of asyncio costs as much as half of the rest.
        timer = None if trail.deadline is None else self._loop.call_at(trail.deadline, self._expire)
        try:
            await self._write(head, body)
            while not self._answer.has_head:
                if self._failure is not None:
                    raise self._failure
                await self._wait()
        finally:
            if timer is not None:
                timer.cancel()
        trail.end()
        return self._answer

    async def finish(self, answer: Answer) -> None:
        """Return when no more of an answer is to be read, or can be."""
        while not answer.is_over and self._is_open:
            await self._wait()

    def is_reusable(self) -> bool:
        """Tell whether a request may be written: nothing is owed, nothing came unasked."""
        return self._is_kept() and not self._has_unread()

    def release(self) -> bool:
        """End an exchange; tell whether the connection can be kept for another one."""
        answer, self._answer, self._trail = self._answer, None, None
        self._idle_since = self._loop.time()
        if answer is not None and answer.idle_seconds is not None:
            self._idle_limit = answer.idle_seconds
        return (
            answer is not None
            and answer.is_complete
            and answer.keeps_alive
            and not answer.has_surplus
            and self._is_kept()
        )

    def _is_kept(self) -> bool:
        now = self._loop.time()
        return (
            self._is_open
            and not self._is_writing
            and not self._is_unwritten
            and self._answer is None
            and now - self._idle_since < min(IDLE_SECONDS, self._idle_limit)
            and now - self._made_at < MAX_AGE_SECONDS
        )

    @property
    def tls(self) -> ssl.SSLObject | None:
        """What TLS agreed upon; None without it."""
        return self._transport.get_extra_info("ssl_object") if self._transport else None

    def close(self) -> None:
        """Close at once: a farewell would have to be waited for, and nothing is under way."""
        self._is_open = False
        if self._transport is not None:
            self._transport.abort()

    async def _write(self, head: bytes, body: bytes) -> None:
        """Write a request, or as much of it as goes until it is answered or fails."""
        self._is_unwritten = True
        for portion in _portions(head, body):
            while self._is_writing and not self._is_decided():
                await self._wait()
            if self._is_decided():
                return
            self._put(portion)
        self._is_unwritten = False
        self._note_written()

    def _put(self, portion: bytes) -> None:
        if self._transport is None or not self._is_open:
            raise closed_unanswered()
        self._transport.write(portion)

    def _is_decided(self) -> bool:
        return self._failure is not None or (self._answer is not None and self._answer.has_head)

    def _expire(self) -> None:
        if self._trail is not None and not self._is_decided():
            self._failure = timed_out(self._trail.phase)
            self._wake()

    def _note_written(self) -> None:
        if self._is_writing or self._is_unwritten or self._trail is None:
            return
        if self._trail.phase is Phase.WRITE:
            self._trail.begin(Phase.WAIT)

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _has_unread(self) -> bool:
        """Tell whether something arrived that the event loop did not come to read yet."""
        return self._poll is None or bool(self._poll.poll(0))

    # What follows is called by the event loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        # Writing is done when the system has all bytes. (At 0, TLS would never resume.)
        self._transport.set_write_buffer_limits(high=1)
        self._poll = select.poll()
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        self._is_open = True

    def data_received(self, data: bytes) -> None:
        """Read on; what nobody asked for ends the connection."""
        answer = self._answer
        if answer is None:
            self._failure = not_http()
            self.close()
            return
        try:
            answer.feed(data)
        except NotHttp:
            self._failure = not_http()
            self.close()
        if answer.has_head or self._failure is not None:
            self._wake()
        elif answer.is_flooded and self._transport is not None:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """Let the connection be closed."""
        self._end(None)
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """End what is under way."""
        self._end(error)

    def pause_writing(self) -> None:
        """Note that not all of the request is with the system."""
        self._is_writing = True

    def resume_writing(self) -> None:
        """Note that all of it is."""
        self._is_writing = False
        self._note_written()
        if self._is_unwritten:
            self._wake()

    def _end(self, error: Exception | None) -> None:
        self._is_open = False
        if self._answer is not None:
            self._answer.end()
        if self._failure is None:
            self._failure = self._lost(error)
        self._wake()

    def _lost(self, error: Exception | None) -> SendFailed:
        if isinstance(error, ssl.SSLError):
            return tls_broken(error)
        if self.exchanges > 1 and self._answer is not None and not self._answer.has_begun:
            return kept_connection_lost()
        return connection_lost(error) if isinstance(error, OSError) else closed_unanswered()


def _portions(head: bytes, body: bytes) -> Iterator[bytes]:
    if failpoints.is_armed("http.mid_body"):
        middle = len(body) // 2
        yield head + body[:middle]
        failpoints.hit("http.mid_body")
        yield body[middle:]
    elif len(body) <= _PORTION:
        yield head + body
    else:
        yield head
        for start in range(0, len(body), _PORTION):
            yield body[start : start + _PORTION]
