"""`signalpost version`."""

from __future__ import annotations

import platform
import sqlite3

import click
import google.protobuf
import grpc

from signalpost import __version__


@click.command()
def version() -> None:
    """Print the versions that a bug report needs."""
    for name, number in (
        ("signalpost", __version__),
        ("python", platform.python_version()),
        ("grpcio", grpc.__version__),
        ("protobuf", google.protobuf.__version__),
        ("sqlite", sqlite3.sqlite_version),
    ):
        click.echo(f"{name:<12}{number}")
