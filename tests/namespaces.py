"""Runs programs of the tests in Linux namespaces of their own: other disks, other networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.conftest import Require

ROOT = Path(__file__).parents[1]
NO_IPV6 = 77
"""The exit code with which a setup says what this machine lacks."""


def with_own_mounts(program: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program that mounts what it likes in a folder."""
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))
    return subprocess.run(
        ["unshare", "--mount", sys.executable, str(program), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )


def with_own_network(
    require: Require, setup: str, *namespaces: str, folder: Path, task: dict[str, Any]
) -> dict[str, Any]:
    """Run shell commands that lay out a network; return the JSON of what they run at the end.

    That is given the task as JSON. `$0` is Python, `$1` the root of this repository.
    """
    done = subprocess.run(
        ["unshare", "--net", *namespaces, "sh", "-c", setup, sys.executable, str(ROOT)],
        cwd=folder,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    require(done.returncode != NO_IPV6, "needs IPv6")
    require("Operation not permitted" not in done.stderr, "needs to make namespaces")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer
