from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from tests.cli.processes import run


def test_it_says_from_where_to_where(tmp_path: Path) -> None:
    first = run("migrate", cwd=tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    start, _, revision = first.stdout.strip().partition(" → ")
    assert start == "Migrated: empty"
    assert (tmp_path / "signalpost.db").exists()
    again = run("migrate", cwd=tmp_path)
    assert again.stdout == f"The database is up to date: {revision}\n"


def test_flag_and_variable_name_the_database(tmp_path: Path) -> None:
    variable = {"SIGNALPOST_DATABASE_URL": "sqlite:///variable.db"}
    run("migrate", cwd=tmp_path, environment=variable)
    run("migrate", "--database", "sqlite:///flag.db", cwd=tmp_path, environment=variable)
    for name in ("variable.db", "flag.db"):
        with sqlite3.connect(tmp_path / name) as connection:
            [(count,)] = connection.execute("SELECT count(*) FROM alembic_version").fetchall()
        connection.close()
        assert count == 1


def test_settings_of_the_server_do_not_matter(tmp_path: Path) -> None:
    ended = run("migrate", cwd=tmp_path, environment={"SIGNALPOST_LISTEN": "nonsense"})
    assert ended.returncode == 0


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("SIGNALPOST_DATABASE", "SIGNALPOST_DATABASE_URL"),
        ("SIGNALPOST_RETENTON", "SIGNALPOST_RETENTION"),
    ],
)
def test_a_misspelt_variable_is_refused_as_the_server_does(
    tmp_path: Path, variable: str, meant: str
) -> None:
    environment = {variable: "sqlite:///elsewhere.db", "SIGNALPOST_HTTP": "nonsense"}
    ended = run("migrate", cwd=tmp_path, environment=environment)
    assert ended.returncode == 2
    assert ended.stderr == f"{variable}: there is no such setting; did you mean {meant}?\n"
    assert not list(tmp_path.iterdir())


def test_variables_of_an_orchestrator_do_not_matter(tmp_path: Path) -> None:
    variables = {"SIGNALPOST_PORT": "tcp://10.0.0.1:1", "SIGNALPOST_SERVICE_HOST": "10.0.0.1"}
    assert run("migrate", cwd=tmp_path, environment=variables).returncode == 0


def test_what_is_no_database_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "signalpost.db").write_bytes(b"no database" * 1000)
    ended = run("migrate", cwd=tmp_path)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("--database (SIGNALPOST_DATABASE_URL): ")
    assert "signalpost.db" in ended.stderr
