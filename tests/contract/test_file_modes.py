"""Who may read what a SQLite database leaves on disk, whatever the process was started with."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlalchemy import event as sqlalchemy_event

from signalpost.store import Store, migrate
from tests.contract.material import NOW, event
from tests.contract.sqlite_file import url_of

MADE = {"", "-wal", "-shm", ".lock", ".key", ".reserve"}
OWNER_ALONE = 0o600


@pytest.fixture(autouse=True)
def open_to_all() -> Iterator[None]:
    """A umask that takes nothing away."""
    former = os.umask(0)
    yield
    os.umask(former)


def modes(path: Path) -> dict[str, int]:
    """The modes of a database's files, by what their names have beyond its own."""
    return {
        file.name.removeprefix(path.name): file.stat().st_mode & 0o777
        for file in path.parent.iterdir()
    }


@contextmanager
def seen_at_connect(path: Path) -> Iterator[list[dict[str, int]]]:
    """Note the modes whenever SQLite is about to open the database."""
    seen: list[dict[str, int]] = []

    def note(*_: object) -> None:
        seen.append(modes(path))

    sqlalchemy_event.listen(Engine, "do_connect", note)
    try:
        yield seen
    finally:
        sqlalchemy_event.remove(Engine, "do_connect", note)


async def test_what_it_makes_only_its_owner_reads(path: Path) -> None:
    store = await Store.open(url_of(path), master_key=None)
    await store.accept([event("e1")], now=NOW)
    assert modes(path) == dict.fromkeys(MADE, OWNER_ALONE)
    await store.aclose()


def test_the_database_is_never_open_to_others_not_even_while_it_is_made(path: Path) -> None:
    with seen_at_connect(path) as seen:
        migrate(url_of(path))
    assert seen[0] == {"": OWNER_ALONE, ".lock": OWNER_ALONE}


async def test_a_database_that_is_there_keeps_its_mode_and_its_files_take_it(path: Path) -> None:
    migrate(url_of(path))
    path.chmod(0o640)
    store = await Store.open(url_of(path), master_key=None)
    await store.accept([event("e1")], now=NOW)
    assert modes(path) == dict.fromkeys(MADE, OWNER_ALONE) | dict.fromkeys(
        ("", "-wal", "-shm"), 0o640
    )
    await store.aclose()
