"""The receiver of the benchmark: a process of its own that answers 200 as fast as it can.

It notes when each event arrived, by a clock that all processes of the machine share.
"""

import asyncio
import multiprocessing
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self, cast

import uvloop

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_ID = b"\r\nwebhook-id: "
_LENGTH = b"\r\ncontent-length: "


@dataclass
class Arrivals:
    """Requests so far, and when each event arrived last."""

    count: int = 0
    times: dict[str, float] = field(default_factory=dict)
    reached: dict[int, Callable[[], None]] = field(default_factory=dict)

    def note(self, event_id: str) -> None:
        self.count += 1
        self.times[event_id] = time.monotonic()
        if self.count in self.reached:
            self.reached.pop(self.count)()


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
    stopped = asyncio.Event()
    server = await loop.create_server(
        lambda: _Protocol(arrivals), "127.0.0.1", 0, ssl=context, backlog=1000
    )
    control.send(server.sockets[0].getsockname()[1])

    def answer() -> None:
        match control.recv():
            case "stop":
                stopped.set()
            case "times":
                control.send(arrivals.times)
            case "cpu":
                control.send(time.process_time())
            case "forget":
                arrivals.count, arrivals.times = 0, {}
                control.send(None)
            case count if arrivals.count >= int(count):
                control.send(None)
            case count:
                arrivals.reached[int(count)] = lambda: control.send(None)

    loop.add_reader(control.fileno(), answer)
    await stopped.wait()
