"""A TLS server as servers are: one that says by an alert what it does not like.

Those of asyncio hang up without a word.
"""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from tests.sender.receivers import OK

Serve = Callable[[ssl.SSLSocket, "TlsServer"], None]


class TlsServer:
    """Serves connections on loopback, one after the other; `read` is what it could decrypt."""

    def __init__(self, context: ssl.SSLContext, serve: Serve) -> None:
        self._context = context
        self._serve = serve
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run)
        self.port: int = self._listener.getsockname()[1]
        self.read = b""

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        # Meanwhile the client, in this loop, closes what is to be closed.
        await asyncio.to_thread(self._thread.join)
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            with connected:
                self._meet(connected)

    def _meet(self, connected: socket.socket) -> None:
        connection = self._context.wrap_socket(
            connected, server_side=True, do_handshake_on_connect=False
        )
        with connection, suppress(OSError):
            try:
                connection.do_handshake()
            except ssl.SSLError:
                # What is unread when a socket is closed overtakes the alert, as a reset.
                with socket.socket(fileno=connection.detach()) as raw:
                    raw.shutdown(socket.SHUT_WR)
                    while raw.recv(65536):
                        pass
            else:
                self._serve(connection, self)


def answer_once(connection: ssl.SSLSocket, server: TlsServer) -> None:
    """Read a request, answer, hang up."""
    with connection:
        server.read += connection.recv(65536)
        connection.sendall(OK)


def break_tls(connection: ssl.SSLSocket, server: TlsServer) -> None:
    """Read a request, and go on in no TLS at all."""
    server.read += connection.recv(65536)
    with socket.socket(fileno=connection.detach()) as raw:
        raw.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        raw.recv(65536)
