"""`signalpost demo`: the whole service at work, with nothing to set up."""

from __future__ import annotations

import asyncio
import base64
import secrets
import shlex
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import click
import grpc.aio
from rich.console import Console
from rich.text import Text

from signalpost import __version__, app
from signalpost.api.examples import examples
from signalpost.cli import certificates, process
from signalpost.cli.board import Board, Row, describe
from signalpost.cli.calls import SUBSCRIPTION_ID, Calls
from signalpost.cli.display import displaying
from signalpost.cli.endpoint import FAILS_ONCE, Endpoint
from signalpost.cli.receiver import receiving
from signalpost.cli.terminal import standard_output, visible
from signalpost.clock import SystemClock
from signalpost.domain.signature import parse_secret
from signalpost.settings import MASTER_KEY_BYTES, load
from signalpost.v1.delivery_pb2 import Delivery

HOST = "127.0.0.1"
LIMIT_SECONDS = 30
"""How long the demonstration waits for its deliveries."""

_POLL_SECONDS = 0.1


@click.command()
@click.option("--once", is_flag=True, help="End when all events are delivered, or cannot be.")
@click.option(
    "--answer",
    "status",
    metavar="STATUS",
    type=click.IntRange(200, 599),
    help="Answer every webhook with this HTTP status.  [default: 200, but 503 to the first"
    f" {FAILS_ONCE}]",
)
def demo(*, once: bool, status: int | None) -> None:
    """Start a server and a receiver, publish twelve events, and show them arrive.

    Everything is real, and gone at the end: a server on a database in a temporary folder, an
    HTTPS receiver that verifies signatures, one event of each built-in type. One webhook is
    refused on purpose, and you see it retried.

    It stays up for calls of your own until Ctrl-C. With --once it ends with 0 if every event
    was delivered and verified, else with 1.

    \b
    Examples:
        signalpost demo
        signalpost demo --once
        signalpost demo --once --answer 500
    """
    work = _demonstrate(standard_output(), once=once, status=status)
    raise click.exceptions.Exit(process.run(work, when_interrupted=1 if once else 0))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stage:
    """Everything that runs."""

    console: Console
    board: Board
    endpoint: Endpoint
    endpoint_uri: str
    grpc_address: str
    calls: Calls


async def _demonstrate(console: Console, *, once: bool, status: int | None) -> int:
    try:
        async with _stage(console, status=status) as stage:
            good = await _succeed(stage)
            if not once:
                _invite(stage)
                await asyncio.Event().wait()
            return 0 if good else 1
    except app.StartFailed as failure:
        click.echo(visible(str(failure)), err=True)
        return 1


async def _succeed(stage: _Stage) -> bool:
    """Perform; a call that fails is told and counts as failure."""
    try:
        return await _perform(stage)
    except grpc.aio.AioRpcError as error:
        click.echo(visible(f"A call failed: {error.code().name}: {error.details()}"), err=True)
        return False


@asynccontextmanager
async def _stage(console: Console, *, status: int | None) -> AsyncIterator[_Stage]:
    board = Board()
    endpoint = Endpoint(board, status=status)
    with tempfile.TemporaryDirectory(prefix="signalpost-demo-") as name:
        folder = Path(name)
        made = certificates.provide(folder, now=SystemClock().now())
        flags = {
            "listen": f"{HOST}:0",
            "http": f"{HOST}:0",
            "database": f"sqlite:///{folder / 'demo.db'}",
            "egress_ca": str(made.ca_file),
            "dev": True,
        }
        tls = made.server_context()
        async with (
            receiving(endpoint.handle, host=HOST, port=0, tls=tls) as port,
            app.running(load(flags, {"SIGNALPOST_MASTER_KEY": _master_key()})) as running,
            grpc.aio.insecure_channel(running.grpc_address) as channel,
        ):
            yield _Stage(
                console=console,
                board=board,
                endpoint=endpoint,
                endpoint_uri=f"https://{HOST}:{port}/webhooks",
                grpc_address=running.grpc_address,
                calls=Calls(channel),
            )


def _master_key() -> str:
    """Make a key, so that the server need not tell where it keeps one of its own."""
    return base64.b64encode(secrets.token_bytes(MASTER_KEY_BYTES)).decode()


async def _perform(stage: _Stage) -> bool:
    """Publish the events and show them until all have ended; tell whether all went well."""
    loop = asyncio.get_running_loop()
    secret = await stage.calls.subscribe(stage.endpoint_uri)
    stage.endpoint.secrets = (parse_secret(secret),)
    _introduce(stage)
    start = loop.time()
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            await _publish_and_watch(stage)
    except TimeoutError:
        stage.console.print(f"\nThis took longer than {LIMIT_SECONDS} s.")
    rows = stage.board.rows()
    await _summarize(stage, rows, seconds=loop.time() - start)
    return all(row.good for row in rows)


async def _publish_and_watch(stage: _Stage) -> None:
    events = examples(SystemClock().now())
    with displaying(stage.console) as display:
        for event in events:
            field = event.WhichOneof("payload") or ""
            stage.board.publish(await stage.calls.publish(event), field.replace("_", ".", 1))
            display.update(stage.board.rows())
        while not all(row.ended for row in stage.board.rows()):
            stage.board.observe(await stage.calls.deliveries())
            display.update(stage.board.rows())
            await asyncio.sleep(_POLL_SECONDS)


def _introduce(stage: _Stage) -> None:
    stage.console.print(
        f"Signalpost {__version__}: events in over gRPC, signed webhooks out\n\n"
        f"  server     {stage.grpc_address}, on a database in a temporary folder\n"
        f"  receiver   {stage.endpoint_uri}, verifying every signature\n",
        soft_wrap=True,
    )


async def _summarize(stage: _Stage, rows: Sequence[Row], *, seconds: float) -> None:
    good = sum(row.good for row in rows)
    style = "bold green" if good == len(rows) else "bold red"
    text = f"\n{good} of {len(rows)} events delivered and verified in {seconds:.1f} s."
    stage.console.print(Text(text, style=style))
    for row in rows:
        if row.delivery and (not row.good or row.attempts > 1):
            delivery = await stage.calls.delivery(row.delivery.delivery_id)
            on_purpose = stage.endpoint.failed_on_purpose and row.event_type == FAILS_ONCE
            note = ", refused once on purpose" if on_purpose else ""
            line = visible(f"{row.event_type}{note}: {_story(row, delivery)}")
            stage.console.print(line, soft_wrap=True)


def _story(row: Row, delivery: Delivery) -> str:
    """Tell all attempts of a delivery in one line."""
    outcomes = [describe(attempt) for attempt in delivery.attempts]
    runs = ((outcome, len(list(same))) for outcome, same in groupby(outcomes))
    told = ", then ".join(f"{outcome} (x {n})" if n > 1 else outcome for outcome, n in runs)
    end = "" if row.good else f"; {row.status}"
    return f"{told or 'no attempt'}{end}"


def _invite(stage: _Stage) -> None:
    stage.console.print("\nStill running. Paste these into another terminal:\n")
    for command in _commands(stage.grpc_address):
        stage.console.print(f"{command}\n", soft_wrap=True)
    stage.console.print("What arrives is shown here. Ctrl-C ends it.\n")
    stage.endpoint.console = stage.console


def _commands(grpc_address: str) -> list[str]:
    installed = Path(sys.executable).with_name("grpcurl")
    grpcurl = shlex.quote(str(installed)) if installed.exists() else "grpcurl"
    event = (
        '{"events": [{"resource": {"id": "acc_43"},'
        ' "account_connected": {"integration": "gmail", "user_id": "user_grace"}}]}'
    )
    subscription = f'{{"subscription_id": "{SUBSCRIPTION_ID}"}}'
    calls = (
        (event, "EventService/Publish"),
        ('{"page_size": 3}', "DeliveryService/ListDeliveries"),
        (subscription, "SubscriptionService/GetSubscription"),
    )
    return [
        f"{grpcurl} -plaintext -d {shlex.quote(data)} {grpc_address} signalpost.v1.{method}"
        for data, method in calls
    ]
