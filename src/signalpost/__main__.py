"""Starts the command `signalpost`, or says what is missing for it."""

from __future__ import annotations

import os
import sys

from signalpost import signals

_DRAINING = ("serve", "demo", "listen")
"""Commands that run until they are asked to end, and then end in good order."""

_MISSING = (
    "signalpost: the command needs the server's packages ({} is missing).\n"
    'Install them with: pip install "signalpost[server]"\n'
)


def _have_standard_files() -> None:
    """Open what is closed of standard input, output and error.

    Files that are opened next would have their numbers: what a library prints would go into a
    connection to a customer.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: PTH123, SIM115 - it stays open


def main() -> None:
    """Run the command. Exits with 1 if the extra `server` is not installed."""
    _have_standard_files()
    command = sys.argv[1] if len(sys.argv) > 1 else ""
    if command in _DRAINING:
        signals.hold(*signals.ENDING)
    if command == "serve":
        signals.hold(signals.RELOADING)
    try:
        from signalpost.cli.command import load, signalpost  # noqa: PLC0415 - may be missing

        load(command)
    except ModuleNotFoundError as missing:
        package = (missing.name or "signalpost").partition(".")[0]
        if package == "signalpost":
            raise
        sys.stderr.write(_MISSING.format(package))
        sys.exit(1)
    signalpost(prog_name="signalpost")


if __name__ == "__main__":
    main()
