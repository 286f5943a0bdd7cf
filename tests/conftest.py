"""What every test may use: the rule for missing infrastructure, and how hard Hypothesis tries."""

import os
import shutil
from collections.abc import Generator
from typing import Protocol

import pytest
from hypothesis import settings

IN_CI = os.environ.get("CI") == "true"

settings.register_profile("default", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=200, deadline=None, derandomize=True)
settings.load_profile("ci" if IN_CI else "default")


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """Start more workers than there are cores: a third of its time, a test waits."""
    return (yield) * 3 // 2


class Require(Protocol):
    def __call__(self, condition: object, reason: str) -> None: ...


def _require(condition: object, reason: str) -> None:
    if condition:
        return
    if IN_CI:
        pytest.fail(f"missing in CI: {reason}", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def require() -> Require:
    """``require(condition, reason)``: skips on a laptop, fails in CI, if the condition is false."""
    return _require


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("needs_root"):
        _require(os.geteuid() == 0, "needs root")
        for command in ("ip", "unshare"):
            _require(shutil.which(command), f"needs root and the command {command}")
