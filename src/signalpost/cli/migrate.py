"""`signalpost migrate`: the database's tables."""

from __future__ import annotations

import click

from signalpost import store
from signalpost.cli import options
from signalpost.cli.terminal import visible


@click.command()
@options.database
def migrate(database: str | None) -> None:
    """Bring the tables of a database up to date, and say from and to which revision.

    `signalpost serve` does the same when it starts. Stop it first: a database belongs to one
    process at a time.

    \b
    Example:
        signalpost migrate --database sqlite:////var/lib/signalpost/signalpost.db
    """
    settings = options.settings_from(
        {"database": database}, heeds=lambda variable: variable == "SIGNALPOST_DATABASE_URL"
    )
    try:
        before, after = store.migrate(settings.database)
    except store.DatabaseRefused as refused:
        click.echo(visible(f"--database (SIGNALPOST_DATABASE_URL): {refused}"), err=True)
        raise click.exceptions.Exit(1) from None
    if before == after:
        click.echo(f"The database is up to date: {after}")
    else:
        click.echo(f"Migrated: {before or 'empty'} → {after}")
