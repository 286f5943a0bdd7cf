from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from signalpost.store import Store
from tests.contract.blank import lay_out
from tests.contract.counting import assert_all_is_counted
from tests.delivery.engine import Engine


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(lay_out(tmp_path / "store.db"), master_key=b"m" * 32)
    yield opened
    if not opened._for_callers._closed:
        await assert_all_is_counted(opened)
    await opened.aclose()


@pytest.fixture
async def engine(store: Store) -> Engine:
    return Engine(store)
