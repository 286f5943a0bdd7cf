import pytest

from signalpost.delivery.patience import patiently
from signalpost.domain.errors import Retryable, StorageFull, StorageUnavailable


async def test_storage_is_waited_for() -> None:
    failures: list[Retryable] = [StorageUnavailable(), StorageFull()]

    async def call() -> str:
        if failures:
            raise failures.pop()
        return "stored"

    assert await patiently(call) == "stored"
    assert failures == []


async def test_any_other_failure_comes_out() -> None:
    async def call() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await patiently(call)
