"""A small HTTP server for orchestrators: `/healthz` and `/readyz`.

It runs on threads of its own, so that `/healthz` can tell a loop that hangs from one that
works.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import TimeoutError as FutureTimeout
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from signalpost.settings import Address

Check = Callable[[], Awaitable[str | None]]
"""Returns what is wrong, or None."""

_CHECK_SECONDS = 5.0
_REQUEST_SECONDS = 10.0


class HealthServer:
    """Answers 200 or 503, with one line that says why."""

    def __init__(self, address: Address, *, ready: Check) -> None:
        self._loop = asyncio.get_running_loop()
        self._checks: dict[str, Check] = {"/healthz": _alive, "/readyz": ready}
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

    def _answer(self, path: str) -> tuple[HTTPStatus, str]:
        check = self._checks.get(path.partition("?")[0])
        if check is None:
            return HTTPStatus.NOT_FOUND, "there are /healthz and /readyz"
        future = asyncio.run_coroutine_threadsafe(_run(check), self._loop)
        try:
            problem = future.result(_CHECK_SECONDS)
        except FutureTimeout:
            future.cancel()
            problem = "no answer within 5 seconds"
        return (HTTPStatus.SERVICE_UNAVAILABLE, problem) if problem else (HTTPStatus.OK, "ok")


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
        answer: Callable[[str], tuple[HTTPStatus, str]],
        host: str,
    ) -> None:
        self.answer = answer
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server: _Server

    def do_GET(self) -> None:
        status, text = self.server.answer(self.path)
        body = text.encode() + b"\n"
        self.send_response(status)
        self.send_header("content-type", "text/plain; charset=utf-8")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing: probes come every few seconds."""
