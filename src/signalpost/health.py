"""A small HTTP server for orchestrators and Prometheus: `/healthz`, `/readyz` and `/metrics`.

It runs on threads of its own, so that `/healthz` can tell a loop that hangs from one that
works.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from signalpost.settings import Address

Check = Callable[[], Awaitable[str | None]]
"""Returns what is wrong, or None."""


@dataclass(frozen=True, slots=True)
class Page:
    """What a path answers with. `read` is called in a thread of its own."""

    read: Callable[[], bytes]
    media_type: str


_CHECK_SECONDS = 5.0
_REQUEST_SECONDS = 10.0
_TEXT = "text/plain; charset=utf-8"

_logger = logging.getLogger(__name__)


class HealthServer:
    """Answers checks with 200 or 503 and one line that says why, and shows `pages` by path."""

    def __init__(
        self, address: Address, *, ready: Check, pages: Mapping[str, Page] | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._checks: dict[str, Check] = {"/healthz": _alive, "/readyz": ready}
        self._pages = pages or {}
        self._server = _Server((address.host, address.port), self._answer, address.host)
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="signalpost-health", daemon=True
        )

    @property
    def address(self) -> Address:
        """Where it listens."""
        host, port = self._server.server_address[:2]
        return Address(str(host), int(port))

    def start(self) -> None:
        """Start to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop to answer."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, target: str) -> _Answer:
        path = target.partition("?")[0]
        if (page := self._pages.get(path)) is not None:
            return _shown(page)
        if (check := self._checks.get(path)) is not None:
            return self._checked(check)
        paths = ", ".join([*self._checks, *self._pages])
        return _Answer(HTTPStatus.NOT_FOUND, f"there are {paths}\n".encode())

    def _checked(self, check: Check) -> _Answer:
        future = asyncio.run_coroutine_threadsafe(_run(check), self._loop)
        try:
            problem = future.result(_CHECK_SECONDS)
        except FutureTimeout:
            future.cancel()
            problem = "no answer within 5 seconds"
        if problem:
            return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{problem}\n".encode())
        return _Answer(HTTPStatus.OK, b"ok\n")


@dataclass(frozen=True, slots=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    media_type: str = _TEXT


def _shown(page: Page) -> _Answer:
    try:
        return _Answer(HTTPStatus.OK, page.read(), page.media_type)
    except Exception:  # whatever it is, the next request must be answered
        _logger.exception("a page could not be shown")
        return _Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"failed; see the log\n")


async def _alive() -> str | None:
    return None


async def _run(check: Check) -> str | None:
    return await check()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        address: tuple[str, int],
        answer: Callable[[str], _Answer],
        host: str,
    ) -> None:
        self.answer = answer
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind, without asking name servers for the name of this machine, which may take long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]

    def handle_error(self, request: object, client_address: object) -> None:
        """Pass over clients that go away, such as probes that only connect; log anything else."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            _logger.error("a request for a page failed", exc_info=error)


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    error_content_type = _TEXT
    error_message_format = "%(message)s\n"
    server: _Server

    def do_GET(self) -> None:
        self.wfile.write(self._answer().body)

    def do_HEAD(self) -> None:
        self._answer()

    def version_string(self) -> str:
        """Name no versions."""
        return "signalpost"

    def _answer(self) -> _Answer:
        answer = self.server.answer(self.path)
        self.send_response(answer.status)
        self.send_header("content-type", answer.media_type)
        self.send_header("content-length", str(len(answer.body)))
        self.end_headers()
        return answer

    def log_message(self, *_: Any) -> None:
        """Say nothing: probes come every few seconds."""
