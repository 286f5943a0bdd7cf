"""Every engine passes the same suite: another one joins as a parameter of `database_url`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from signalpost.store import Store, engine
from tests.contract.blank import lay_out
from tests.contract.counting import assert_all_is_counted


@pytest.fixture(params=["sqlite"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    assert request.param == "sqlite"
    return lay_out(tmp_path / "store.db")


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[Store]:
    opened = await Store.open(database_url, master_key=b"m" * 32)
    yield opened
    if not opened._for_callers._closed:
        await assert_all_is_counted(opened)
    await opened.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_SECONDS", 0.05)
