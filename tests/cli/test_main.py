from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import run


def without(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Start the command where a module is not installed."""
    program = (
        f"import runpy, sys; sys.modules[{module!r}] = None;"
        f" sys.argv[1:] = {list(arguments)};"
        " runpy.run_module('signalpost', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("module", "command"),
    [("click", "--help"), ("rich", "listen"), ("sqlalchemy", "migrate"), ("uvloop", "serve")],
)
def test_a_missing_extra_is_said_plainly(module: str, command: str) -> None:
    ended = without(module, command)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"({module} is missing)" in ended.stderr
    assert 'pip install "signalpost[server]"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_fault_of_our_own_is_not_mistaken_for_a_missing_extra() -> None:
    ended = without("signalpost.cli.options", "serve")
    assert ended.returncode == 1
    assert "pip install" not in ended.stderr
    assert "Traceback" in ended.stderr


def test_help_is_there_without_what_the_commands_consist_of(tmp_path: Path) -> None:
    environment = {"PYTHONPROFILEIMPORTTIME": "1"}
    ended = run("--help", cwd=tmp_path, environment=environment)
    assert ended.returncode == 0
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "click" in loaded
    assert not loaded & {"grpc", "sqlalchemy", "cryptography", "rich", "asyncio"}


def test_version_names_what_a_bug_report_needs(tmp_path: Path) -> None:
    lines = run("version", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "signalpost",
        "python",
        "grpcio",
        "protobuf",
        "sqlite",
    ]
    assert all(line.split()[1][0].isdigit() for line in lines)
