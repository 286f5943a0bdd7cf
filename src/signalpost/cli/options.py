"""Flags that stand for settings.

They carry text: `settings.load` reads it, the environment and the defaults, and reports all
mistakes at once. So no flag has a default or a variable of its own here, only in its help.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import click

from signalpost.cli.terminal import visible
from signalpost.domain.handshake import DEFAULT_ORIGIN
from signalpost.settings import (
    DEFAULT_DATABASE,
    DEFAULT_HOST_CONCURRENCY,
    DEFAULT_HOST_FAILURE_RATE,
    DEFAULT_HTTP,
    DEFAULT_LISTEN,
    DEFAULT_LOG_LEVEL,
    DEFAULT_WATCH_LIMIT,
    Heeds,
    Settings,
    SettingsInvalid,
    heeds_all,
    load,
)

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _help(text: str, *, variable: str, default: str) -> str:
    return f"{text}  [{variable}; default: {default}]"


listen: Decorator = click.option(
    "--listen",
    metavar="HOST:PORT",
    help=_help(
        "Where to take gRPC calls. Only addresses of this machine: callers cannot be"
        " authenticated yet.",
        variable="SIGNALPOST_LISTEN",
        default=DEFAULT_LISTEN,
    ),
)
database: Decorator = click.option(
    "--database",
    metavar="URL",
    help=_help(
        "The database: three slashes for a path relative to the working directory, four for"
        " an absolute one.",
        variable="SIGNALPOST_DATABASE_URL",
        default=DEFAULT_DATABASE,
    ),
)
http: Decorator = click.option(
    "--http",
    metavar="HOST:PORT",
    help=_help(
        "Where /healthz, /readyz and /metrics are.",
        variable="SIGNALPOST_HTTP",
        default=DEFAULT_HTTP,
    ),
)
egress_allow: Decorator = click.option(
    "--egress-allow",
    metavar="CIDR",
    multiple=True,
    help=_help(
        "An address range, such as 10.1.0.0/16, that webhooks may go to although it is not"
        " public, or @FILE with such ranges. Repeat it for more.",
        variable="SIGNALPOST_EGRESS_ALLOW, separated by commas",
        default="none",
    ),
)
egress_ports: Decorator = click.option(
    "--egress-ports",
    metavar="PORTS",
    help=_help(
        "The only ports that webhooks may go to, such as 443,8000-8999, or @FILE with such.",
        variable="SIGNALPOST_EGRESS_PORTS",
        default="443, and from 1024 up all but well-known ones of databases, mail and the like",
    ),
)
egress_ca: Decorator = click.option(
    "--egress-ca",
    metavar="FILE",
    help=_help(
        "A file with certificates (PEM) of authorities to trust besides the system's.",
        variable="SIGNALPOST_EGRESS_CA",
        default="none",
    ),
)
retention: Decorator = click.option(
    "--retention",
    metavar="DURATION",
    help=_help(
        "How long events and their deliveries are kept after these ended, such as 12h or 7d.",
        variable="SIGNALPOST_RETENTION",
        default="7d",
    ),
)
failed_retention: Decorator = click.option(
    "--failed-retention",
    metavar="DURATION",
    help=_help(
        "How long deliveries that failed are kept after their end, with their events.",
        variable="SIGNALPOST_FAILED_RETENTION",
        default="30d",
    ),
)
handshake_origin: Decorator = click.option(
    "--handshake-origin",
    metavar="NAME",
    help=_help(
        "The DNS name under which endpoints are asked for their consent (require_handshake).",
        variable="SIGNALPOST_HANDSHAKE_ORIGIN",
        default=DEFAULT_ORIGIN,
    ),
)
host_concurrency: Decorator = click.option(
    "--host-concurrency",
    metavar="NUMBER",
    help=_help(
        "Most attempts under way to one host at once, whatever their subscriptions.",
        variable="SIGNALPOST_HOST_CONCURRENCY",
        default=str(DEFAULT_HOST_CONCURRENCY),
    ),
)
host_failure_rate: Decorator = click.option(
    "--host-failure-rate",
    metavar="NUMBER",
    help=_help(
        "Most attempts a second to one host that fail, beyond as many as succeed there.",
        variable="SIGNALPOST_HOST_FAILURE_RATE",
        default=str(DEFAULT_HOST_FAILURE_RATE),
    ),
)
watch_limit: Decorator = click.option(
    "--watch-limit",
    metavar="NUMBER",
    help=_help(
        "Most streams of WatchEvents and WatchDeliveries at once, half of them for one tenant.",
        variable="SIGNALPOST_WATCH_LIMIT",
        default=str(DEFAULT_WATCH_LIMIT),
    ),
)
log_level: Decorator = click.option(
    "--log-level",
    metavar="LEVEL",
    help=_help(
        "The least that is logged: debug (also each success), info, warning or error.",
        variable="SIGNALPOST_LOG_LEVEL",
        default=DEFAULT_LOG_LEVEL,
    ),
)
lane_limit: Decorator = click.option(
    "--lane-limit",
    metavar="NUMBER",
    help=_help(
        "Most deliveries that wait for one subscription; the oldest above it are given up.",
        variable="SIGNALPOST_LANE_LIMIT",
        default="1000000",
    ),
)
reflection: Decorator = click.option(
    "--reflection/--no-reflection",
    default=None,
    help=_help(
        "Lets tools such as grpcurl ask for the contract.",
        variable="SIGNALPOST_REFLECTION",
        default="off; on with --dev",
    ),
)
dev: Decorator = click.option(
    "--dev",
    is_flag=True,
    default=None,
    help=_help(
        "For development: webhooks may go to this machine, also by plain http.",
        variable="SIGNALPOST_DEV",
        default="off",
    ),
)
master_key_file: Decorator = click.option(
    "--master-key-file",
    metavar="FILE",
    help=_help(
        "A file that holds what SIGNALPOST_MASTER_KEY would, such as a mounted secret.",
        variable="SIGNALPOST_MASTER_KEY_FILE",
        default="none",
    ),
)


def read(flags: Mapping[str, object], *, heeds: Heeds = heeds_all) -> Settings:
    """Return the settings that these flags and the environment make; None and () are absent.

    Of variables only those are read that it `heeds`. Raises SettingsInvalid.
    """
    given = {name: value for name, value in flags.items() if value is not None and value != ()}
    return load(given, os.environ, heeds=heeds)


def read_anew(flags: Mapping[str, object]) -> Settings:
    """Return what `read` returns by now, but for the master key: its file may be gone.

    Raises SettingsInvalid.
    """
    without = {name: value for name, value in flags.items() if name != "master_key_file"}
    return read(without, heeds=lambda variable: variable != "SIGNALPOST_MASTER_KEY_FILE")


def settings_from(flags: Mapping[str, object], *, heeds: Heeds = heeds_all) -> Settings:
    """Return the settings that `read` returns, or end the command: 2, a line for each mistake."""
    try:
        return read(flags, heeds=heeds)
    except SettingsInvalid as invalid:
        click.echo(visible(str(invalid), keep="\n"), err=True)
        raise click.exceptions.Exit(2) from None
