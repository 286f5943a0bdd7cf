"""The command `signalpost`."""

from __future__ import annotations

import click

from signalpost.cli.demo import demo
from signalpost.cli.listen import listen
from signalpost.cli.migrate import migrate
from signalpost.cli.serve import serve
from signalpost.cli.version import version


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
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


for _command in (serve, migrate, demo, listen, version):
    signalpost.add_command(_command)
