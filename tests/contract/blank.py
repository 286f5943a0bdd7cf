"""An empty database of this version: migrated once in a process, copied for each test.

That a store opens where nothing is yet is shown where migrations are, and by each service that
starts.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from signalpost.store import migrate


def lay_out(path: Path) -> str:
    """Return the URL of a database; if there is no such file, make it an empty one."""
    if not path.exists():
        path.write_bytes(_blank())
    return f"sqlite:///{path}"


@cache
def _blank() -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "blank.db"
        migrate(f"sqlite:///{path}")
        return path.read_bytes()
