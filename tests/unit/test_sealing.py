from __future__ import annotations

import pytest
from hypothesis import given, strategies

from signalpost.ports import SecretUnreadable
from signalpost.store.sealing import KEY_BYTES, Sealer, derive

MASTER = b"m" * KEY_BYTES
OWNER = ("secret", "acme", "sub", "key-1")


@given(content=strategies.binary(max_size=100), owner=strategies.lists(strategies.text()))
def test_what_is_sealed_opens_for_its_owner(content: bytes, owner: list[str]) -> None:
    belongs_to = ("purpose", *owner)
    sealed = Sealer(MASTER).seal(content, *belongs_to)
    assert Sealer(MASTER).open(sealed, *belongs_to) == content


@pytest.mark.parametrize(
    "other",
    [
        ("headers", "acme", "sub", "key-1"),
        ("secret", "other", "sub", "key-1"),
        ("secret", "acme", "sub2", "key-1"),
        ("secret", "acme", "sub", "key-2"),
        ("secret", "acmesub", "", "key-1"),
        ("secret", "acme", "sub"),
    ],
)
def test_what_is_sealed_opens_for_nobody_else(other: tuple[str, ...]) -> None:
    sealed = Sealer(MASTER).seal(b"content", *OWNER)
    with pytest.raises(SecretUnreadable):
        Sealer(MASTER).open(sealed, *other)


def test_any_changed_byte_is_noticed() -> None:
    sealed = Sealer(MASTER).seal(b"content", *OWNER)
    for at in range(len(sealed)):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        with pytest.raises(SecretUnreadable):
            Sealer(MASTER).open(changed, *OWNER)
        with pytest.raises(SecretUnreadable):
            Sealer(MASTER).open(sealed[:at], *OWNER)


def test_another_master_key_is_told_apart_from_damage() -> None:
    sealed = Sealer(MASTER).seal(b"content", *OWNER)
    with pytest.raises(SecretUnreadable, match="another master key"):
        Sealer(b"n" * KEY_BYTES).open(sealed, *OWNER)
    with pytest.raises(SecretUnreadable, match="damaged"):
        Sealer(MASTER).open(sealed[:-1], *OWNER)


def test_sealing_twice_gives_nothing_to_compare() -> None:
    sealer = Sealer(MASTER)
    assert sealer.seal(b"content", *OWNER) != sealer.seal(b"content", *OWNER)


def test_derived_keys_are_apart_by_purpose_and_master_key() -> None:
    keys = {derive(master, purpose) for master in (MASTER, b"n" * 32) for purpose in ("a", "b")}
    assert len(keys) == 4
    assert MASTER not in keys
    assert derive(MASTER, "a") == derive(MASTER, "a")
