"""`signalpost listen`: a receiver to try webhooks with."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from signalpost.cli import certificates, process
from signalpost.cli.receiver import Answer, Request, receiving
from signalpost.cli.terminal import standard_output, visible
from signalpost.cli.verification import verify
from signalpost.cli.webhook import render
from signalpost.clock import SystemClock
from signalpost.domain.signature import parse_secret

HOST = "127.0.0.1"
DEFAULT_PORT = 8443


class _Secret(click.ParamType[bytes]):
    """A secret as its owner sees it; the message of a mistake does not repeat it."""

    name = "secret"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> bytes:
        try:
            return parse_secret(str(value))
        except ValueError as error:
            self.fail(f"a secret {error}", param, ctx)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Answers every webhook alike, and prints it."""

    secrets: Sequence[bytes] = field(repr=False)
    status: int
    delay_seconds: float
    console: Console

    async def handle(self, request: Request) -> Answer:
        """Verify, wait, print, answer."""
        received = SystemClock().now()
        verification = verify(request.headers, request.body, secrets=self.secrets, now=received)
        await asyncio.sleep(self.delay_seconds)
        text = render(request, verification, status=self.status, received=received)
        self.console.print(text, soft_wrap=True)
        return Answer(self.status)


@click.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port on 127.0.0.1; 0 lets the system choose one.",
)
@click.option(
    "--secret",
    "secrets",
    metavar="whsec_...",
    type=_Secret(),
    multiple=True,
    help="A secret to verify signatures with. Repeat it for more.  [default: none, nothing is"
    " verified]",
)
@click.option(
    "--dir",
    "folder",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the certificates are kept from one start to the next.  [default: a temporary"
    " folder]",
)
@click.option(
    "--answer",
    "status",
    type=click.IntRange(200, 599),
    default=200,
    show_default=True,
    help="The HTTP status to answer with.",
)
@click.option(
    "--delay",
    "delay_seconds",
    metavar="SECONDS",
    type=click.FloatRange(min=0, max=3600),
    default=0,
    show_default=True,
    help="How long to wait before each answer.",
)
def listen(
    *,
    port: int,
    secrets: tuple[bytes, ...],
    folder: Path | None,
    status: int,
    delay_seconds: float,
) -> None:
    """Receive webhooks over HTTPS, verify their signatures and print them.

    It makes a throw-away certificate authority and prints its path: a server trusts it when
    started with --egress-ca. With --answer and --delay you can rehearse failure. Whoever asks
    for consent (require_handshake) gets it.

    \b
    Examples:
        signalpost listen --dir certificates
        signalpost listen --dir certificates --secret whsec_...
        signalpost listen --answer 503
        signalpost listen --delay 20
    """
    listener = Listener(
        secrets=secrets, status=status, delay_seconds=delay_seconds, console=standard_output()
    )
    with ExitStack() as stack:
        if folder is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="signalpost-")))
        code = process.run(_listen(listener, port=port, folder=folder), when_interrupted=0)
    raise click.exceptions.Exit(code)


async def _listen(listener: Listener, *, port: int, folder: Path) -> int:
    try:
        made = certificates.provide(folder, now=SystemClock().now())
    except OSError as error:
        return _failed(f"cannot write certificates to {folder}: {error.strerror}")
    try:
        tls = made.server_context()
        async with receiving(listener.handle, host=HOST, port=port, tls=tls) as bound:
            listener.console.print(_greeting(listener, bound, made.ca_file), soft_wrap=True)
            await asyncio.Event().wait()
    except OSError as error:
        # Not its own text, which tells of the call that failed.
        problem = os.strerror(error.errno) if error.errno else error
        return _failed(f"cannot listen on {HOST}:{port}: {problem}")
    return 0


def _greeting(listener: Listener, port: int, ca_file: Path) -> Text:
    verified = f"with {len(listener.secrets)} secret(s)" if listener.secrets else "no (--secret)"
    return Text(
        f"Listening on      https://{HOST}:{port}\n"
        f"Authority         {visible(str(ca_file.absolute()))}\n"
        f"Verifying         {verified}\n"
        f"Answering         {listener.status}, after {listener.delay_seconds:g} s\n"
        "Ctrl-C ends it.\n"
    )


def _failed(message: str) -> int:
    click.echo(visible(message), err=True)
    return 1
