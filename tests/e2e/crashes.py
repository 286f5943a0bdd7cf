"""A service that is dead, looked at in its file."""

import sqlite3
from contextlib import closing

from tests.e2e.service import Service


def leased(service: Service) -> int:
    """Count what a service that is dead had in flight."""
    with closing(sqlite3.connect(service.folder / "signalpost.db")) as connection:
        [count] = connection.execute(
            "SELECT count(*) FROM queue WHERE lease_until IS NOT NULL"
        ).fetchone()
    return int(count)
