"""What lies sealed in a SQLite file, and the key that opens it."""

from __future__ import annotations

import asyncio
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from signalpost.domain.ids import LaneId, SubscriptionId
from signalpost.ports import SecretUnreadable
from signalpost.store import MasterKeyInvalid, Store
from tests.contract.material import NOW, TENANT, signing_key, subscription
from tests.contract.sqlite_file import KEY, SUB, change, look, url_of


def bytes_of(path: Path) -> bytes:
    """Read by another process: closing a descriptor here would drop SQLite's locks."""
    return subprocess.run(["cat", path], stdout=subprocess.PIPE, check=True).stdout


async def test_no_secret_lies_in_the_files(store: Store, path: Path) -> None:
    secret, header = b"signing-secret-of-32-bytes-aaaaa", "Bearer header-value"
    stored = await store.create(
        subscription(signing_keys=(signing_key(secret),), headers={"Authorization": header})
    )
    await store.replace(replace(stored, display_name="changed"), now=NOW)
    files = [path, path.with_name("store.db-wal")]
    content = b"".join([await asyncio.to_thread(bytes_of, file) for file in files])
    assert stored.endpoint_uri.encode() in content
    for hidden in (secret, header.encode(), KEY):
        assert hidden not in content
    assert repr(secret)[2:-1] not in repr(stored)


async def test_deletion_erases_secrets_and_header_values(store: Store, path: Path) -> None:
    await store.create(subscription(headers={"Authorization": "Bearer x"}))
    assert await asyncio.to_thread(look, path, "SELECT count(*) FROM signing_keys") == [(1,)]
    await store.delete(TENANT, SUB, etag=None, now=NOW)
    assert await asyncio.to_thread(look, path, "SELECT count(*) FROM signing_keys") == [(0,)]
    assert await asyncio.to_thread(look, path, "SELECT headers FROM subscriptions") == [(b"",)]


async def test_secret_copied_to_another_subscription_does_not_open(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=KEY)
    await store.create(subscription("a"))
    await store.create(subscription("b"))
    await store.aclose()
    change(
        path,
        "UPDATE signing_keys SET secret = (SELECT secret FROM signing_keys WHERE lane_id = 1)",
    )
    store = await Store.open(url_of(path), master_key=KEY)
    assert await store.get(TENANT, SubscriptionId("a")) == subscription("a", lane_id=LaneId(1))
    with pytest.raises(SecretUnreadable):
        await store.get(TENANT, SubscriptionId("b"))
    found = await store.subscriptions_of([LaneId(1), LaneId(2)])
    assert found[LaneId(1)] == subscription("a", lane_id=LaneId(1))
    assert isinstance(found[LaneId(2)], SecretUnreadable)
    assert await store.delete(TENANT, SubscriptionId("b"), etag=None, now=NOW) == 2
    await store.aclose()


async def test_key_file_is_made_once_and_only_its_owner_reads_it(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=None)
    key_file = path.with_name("store.db.key")
    assert store.made_key_file == key_file
    assert key_file.stat().st_mode & 0o777 == 0o600
    created = await store.create(subscription())
    token_key = store.page_token_key
    await store.aclose()
    again = await Store.open(url_of(path), master_key=None)
    assert again.made_key_file is None
    assert again.page_token_key == token_key
    assert await again.get(TENANT, SUB) == created
    await again.aclose()


async def test_key_file_that_cannot_be_written_is_refused(path: Path) -> None:
    path.with_name("store.db.key.new").mkdir()
    with pytest.raises(MasterKeyInvalid, match=r"cannot write .*store\.db\.key"):
        await Store.open(url_of(path), master_key=None)


@pytest.mark.parametrize("content", ["", "short", "bm90IDMyIGJ5dGVz", "\0"])
async def test_malformed_key_file_is_refused(path: Path, content: str) -> None:
    path.with_name("store.db.key").write_text(content)
    with pytest.raises(MasterKeyInvalid, match=r"store\.db\.key"):
        await Store.open(url_of(path), master_key=None)


async def test_database_without_its_master_key_is_refused(path: Path) -> None:
    await (await Store.open(url_of(path), master_key=None)).aclose()
    key_file = path.with_name("store.db.key")
    right = key_file.read_bytes()
    key_file.unlink()
    with pytest.raises(MasterKeyInvalid, match="none is in SIGNALPOST_MASTER_KEY, "):
        await Store.open(url_of(path), master_key=None)
    assert not key_file.exists()
    with pytest.raises(MasterKeyInvalid, match="another master key than the one given"):
        await Store.open(url_of(path), master_key=KEY)
    with pytest.raises(MasterKeyInvalid, match="must be 32 bytes, not 3"):
        await Store.open(url_of(path), master_key=b"abc")
    key_file.write_bytes(right)
    await (await Store.open(url_of(path), master_key=None)).aclose()
