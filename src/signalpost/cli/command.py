"""The command `signalpost`.

What a command consists of is imported when it is run or asked for its own help: all of it takes
a second.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

COMMANDS: Final = {
    "demo": "Start a server and a receiver, publish twelve events, and show them arrive.",
    "listen": "Receive webhooks over HTTPS, verify their signatures and print them.",
    "migrate": "Bring the tables of a database up to date, and say from and to which revision.",
    "serve": "Take events over gRPC and deliver them as signed webhooks.",
    "version": "Print the versions that a bug report needs.",
}
"""Each command with the first sentence of its help; it is in the module of its name."""


def load(name: str) -> click.Command | None:
    """Return a command, None if there is none of this name.

    Raises ModuleNotFoundError if a package is missing for it.
    """
    if name not in COMMANDS:
        return None
    command = getattr(import_module(f"signalpost.cli.{name}"), name)
    return command if isinstance(command, click.Command) else None


class _OnDemand(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=_OnDemand,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96},
)
def signalpost() -> None:
    """Signalpost takes events over gRPC and delivers them as signed webhooks.

    \b
    See it work, with nothing to set up:
        signalpost demo

    \b
    Try it with your own calls, in two terminals:
        signalpost listen --dir certificates
        signalpost serve --dev --egress-ca certificates/ca.pem
    """
