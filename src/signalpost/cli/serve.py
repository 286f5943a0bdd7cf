"""`signalpost serve`: the service itself."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Final

import click
import uvloop

from signalpost import __version__, app, egress
from signalpost.cli import options
from signalpost.cli.terminal import visible
from signalpost.domain.egress_ports import DEFAULT_PORTS
from signalpost.settings import Settings
from signalpost.telemetry import logs

_MOST_TOLD: Final = 5
"""Ranges or ports that are told at the start: they are to fit into a line."""


@click.command()
@options.listen
@options.database
@options.http
@options.egress_allow
@options.egress_ports
@options.egress_ca
@options.retention
@options.failed_retention
@options.handshake_origin
@options.host_concurrency
@options.host_failure_rate
@options.watch_limit
@options.log_level
@options.lane_limit
@options.reflection
@options.dev
@options.master_key_file
def serve(**flags: object) -> None:
    """Take events over gRPC and deliver them as signed webhooks.

    Each flag can be given as the environment variable named with it; a flag goes first.
    SIGNALPOST_MASTER_KEY, the Base64 of 32 bytes, seals secrets in the database; without it,
    and without --master-key-file, a key is made in a file beside an SQLite database.

    It runs until SIGTERM or Ctrl-C, and then lets what is under way finish. On SIGHUP it reads
    its --egress-... files anew. Logs go to standard error.

    \b
    Examples:
        signalpost serve --dev
        signalpost serve --database sqlite:////var/lib/signalpost/signalpost.db
        SIGNALPOST_LISTEN=127.0.0.1:7000 signalpost serve
    """
    settings = options.settings_from(flags)
    logs.configure(level=settings.log_level)

    def announce(running: app.Running) -> None:
        with suppress(OSError):  # such as a full disk: whom it tells does not matter so much
            click.echo(_announcement(settings, running))

    try:
        uvloop.run(app.serve(settings, read_anew=partial(options.read_anew, flags), ready=announce))
    except app.StartFailed as failure:
        click.echo(visible(str(failure)), err=True)
        raise click.exceptions.Exit(1) from None


def _announcement(settings: Settings, running: app.Running) -> str:
    """Say where everything is, and what is allowed that is not by default."""
    lines = [
        f"Signalpost {__version__}",
        f"  gRPC       {running.grpc_address}" + (" (reflection on)" * settings.reflection),
        f"  health     http://{running.http_address}/healthz, /readyz and /metrics",
        f"  database   {visible(settings.database)}",
    ]
    if settings.egress_allow:
        ranges = egress.ranges_in_words(settings, most=_MOST_TOLD)
        lines.append(f"  egress     public addresses, and {ranges}")
    if settings.egress_ports != DEFAULT_PORTS:
        lines.append(f"  ports      only {egress.ports_in_words(settings, most=_MOST_TOLD)}")
    if settings.egress_ca:
        lines.append(f"  trusting   {visible(str(settings.egress_ca))} besides the system's roots")
    if settings.dev:
        lines.append(
            "  --dev      webhooks may go to this machine, also by plain http;"
            " callers need no credentials: for development only"
        )
    return "\n".join(lines)
