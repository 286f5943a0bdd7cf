"""The receiver of the benchmark: a process of its own that answers 200 as fast as it can.

It notes when each event arrived, by a clock that all processes of the machine share.
"""

import asyncio
import multiprocessing
import ssl
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_ID = b"\r\nwebhook-id: "
_LENGTH = b"\r\ncontent-length: "


class Arrivals:
    """How many requests came so far, and when each event came last."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.forget()

    def forget(self) -> None:
        self.count, self._wanted = 0, 0
        self.times: dict[str, float] = {}

    def note(self, event_id: str) -> None:
        self.count += 1
        self.times[event_id] = time.monotonic()
        if self.count == self._wanted:
            with self._changed:
                self._changed.notify()

    def wait_for(self, count: int) -> None:
        with self._changed:
            self._wanted = count
            self._changed.wait_for(lambda: self.count >= count)


class _Protocol(asyncio.Protocol):
    """Reads requests with a head in lower case and a length, as benchmarked clients send them."""

    def __init__(self, arrivals: Arrivals) -> None:
        self._arrivals = arrivals
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[: end + 2].lower()
            whole = end + 4 + int(_value(head, _LENGTH))
            if len(self._buffer) < whole:
                return
            self._arrivals.note(_value(head, _ID).decode())
            self._buffer = self._buffer[whole:]
            self._transport.write(_ANSWER)


def _value(head: bytes, name: bytes) -> bytes:
    start = head.find(name) + len(name)
    return head[start : head.find(b"\r", start)]


class Receiver:
    """Starts the process, and asks it what arrived."""

    def __init__(self, certificate: Path | None) -> None:
        context = multiprocessing.get_context("spawn")
        self._ours, theirs = context.Pipe()
        self._process = context.Process(target=_run, args=(certificate, theirs), daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        self.port: int = self._ours.recv()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.send("stop")
        self._process.join()

    def ask(self, question: str) -> Any:
        """Ask for the "times" or the "cpu" seconds used; "forget" starts anew."""
        self._ours.send(question)
        return self._ours.recv()

    def wait_for(self, count: int) -> None:
        """Block until so many requests arrived."""
        self.ask(str(count))


def _run(certificate: Path | None, control: Connection) -> None:
    uvloop.run(_serve(certificate, control))


async def _serve(certificate: Path | None, control: Connection) -> None:
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    arrivals = Arrivals()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: _Protocol(arrivals), "127.0.0.1", 0, ssl=context, backlog=1000
    )
    control.send(server.sockets[0].getsockname()[1])
    await asyncio.to_thread(_answer, arrivals, control)


def _answer(arrivals: Arrivals, control: Connection) -> None:
    """Answer questions until told to stop, in a thread: answers may be long, and waits, too."""
    while (question := control.recv()) != "stop":
        match question:
            case "times":
                control.send(arrivals.times)
            case "cpu":
                control.send(time.process_time())
            case "forget":
                arrivals.forget()
                control.send(None)
            case count:
                arrivals.wait_for(int(count))
                control.send(None)
