"""Brings the schema of a database to that of this version.

Each migration is one transaction: whatever ends it early leaves the schema of before.
"""

from __future__ import annotations

import logging
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from signalpost.store.refusal import DatabaseRefused

_logger = logging.getLogger(__name__)

_MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade(conn: Connection, *, name: str) -> tuple[str | None, str]:
    """Apply what is missing; return the revision before (None: an empty database) and after.

    `name` is that of the database in messages. Raises DatabaseRefused for one that a newer
    version, or something else, made.
    """
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = conn
    script = ScriptDirectory.from_config(config)
    with conn.begin():
        before = MigrationContext.configure(conn).get_current_revision()
        is_empty = not inspect(conn).get_table_names()
    known = {revision.revision for revision in script.walk_revisions()}
    if before is not None and before not in known:
        raise DatabaseRefused(f"{name} was made by a newer version of signalpost: upgrade")
    if before is None and not is_empty:
        raise DatabaseRefused(f"{name} is the database of something else")
    head = script.get_current_head()
    if head is None:
        raise DatabaseRefused("this installation is damaged: it has no migrations")
    if before != head:
        command.upgrade(config, "head")
        _logger.info("%s is at schema %s now, from %s", name, head, before or "nothing")
    return before, head
