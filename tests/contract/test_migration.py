"""Bringing the schema of a SQLite file up to date."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import alembic.op
import pytest
from sqlalchemy import create_engine

from signalpost.store import DatabaseRefused, migrate
from signalpost.store.tables import metadata
from tests.contract.sqlite_file import change, look, url_of


def schema(path: Path) -> set[tuple[str, str]]:
    rows = look(path, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    found = ((name, " ".join(sql.split())) for name, sql in rows if name != "alembic_version")
    # A column that was added later differs in the spaces behind the last one of before.
    return {(name, re.sub(r"(?<=\() | (?=[,)])", "", sql)) for name, sql in found}


def test_migrated_schema_is_that_of_the_tables(path: Path, tmp_path: Path) -> None:
    before, after = migrate(url_of(path))
    assert before is None
    assert migrate(url_of(path)) == (after, after)
    made = tmp_path / "made.db"
    fresh = create_engine(url_of(made))
    metadata.create_all(fresh)
    fresh.dispose()
    assert schema(path) == schema(made)


def test_database_of_a_newer_version_is_refused(path: Path) -> None:
    migrate(url_of(path))
    change(path, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(DatabaseRefused, match="made by a newer version"):
        migrate(url_of(path))


def test_database_of_something_else_is_refused_and_left_alone(path: Path) -> None:
    change(path, "CREATE TABLE theirs (id)")
    with pytest.raises(DatabaseRefused, match="something else"):
        migrate(url_of(path))
    assert [name for name, _ in schema(path)] == ["theirs"]


def test_file_that_is_no_database_is_refused_and_left_alone(path: Path) -> None:
    path.write_text("precious notes\n" * 100)
    with pytest.raises(DatabaseRefused, match="is not a SQLite database"):
        migrate(url_of(path))
    assert path.read_text() == "precious notes\n" * 100


def test_migration_that_fails_leaves_the_schema_of_before(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    create_table = alembic.op.create_table

    def fail_at_the_last(name: str, *args: Any, **more: Any) -> Any:
        if name == "attempts":
            raise Interrupted
        return create_table(name, *args, **more)

    monkeypatch.setattr(alembic.op, "create_table", fail_at_the_last)
    with pytest.raises(Interrupted):
        migrate(url_of(path))
    assert look(path, "SELECT name FROM sqlite_master") == []
    monkeypatch.undo()
    assert migrate(url_of(path))[0] is None
