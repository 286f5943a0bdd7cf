from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import run


def without(module: str) -> subprocess.CompletedProcess[str]:
    """Start the command where a module is not installed."""
    program = (
        f"import runpy, sys; sys.modules[{module!r}] = None;"
        " runpy.run_module('signalpost', run_name='__main__')"
    )
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("module", ["click", "rich", "sqlalchemy", "uvloop"])
def test_a_missing_extra_is_said_plainly(module: str) -> None:
    ended = without(module)
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert f"({module} is missing)" in ended.stderr
    assert 'pip install "signalpost[server]"' in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_fault_of_our_own_is_not_mistaken_for_a_missing_extra() -> None:
    ended = without("signalpost.cli.command")
    assert ended.returncode == 1
    assert "pip install" not in ended.stderr
    assert "Traceback" in ended.stderr


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
