"""What there is to share out: files and memory."""

import os
from pathlib import Path

import pytest

from signalpost.process import Share, memory_limit, resident_bytes

MIB = 2**20
GIB = 1024 * MIB
V1, V2 = "sys/fs/cgroup/memory/{}memory.limit_in_bytes", "sys/fs/cgroup/{}memory.max"
UNLIMITED_V1 = "9223372036854771712"


def share(*, files: int = 65_536, memory: int = 64 * GIB) -> tuple[int, int]:
    found = Share.of(files=files, memory=memory, attempts=512, kept=2000)
    return found.attempts, found.kept


def test_with_plenty_of_both_there_is_what_is_wanted() -> None:
    assert share() == (512, 2000)


@pytest.mark.parametrize(
    ("files", "memory", "expected"),
    [
        (1024, 64 * GIB, (256, 256)),
        (0, 64 * GIB, (8, 8)),
        (65_536, 256 * MIB, (96, 192)),
        (65_536, 512 * MIB, (352, 704)),
        (256, 512 * MIB, (64, 64)),
        (65_536, 100 * MIB, (8, 8)),
    ],
)
def test_with_little_of_either_there_is_less(
    files: int, memory: int, expected: tuple[int, int]
) -> None:
    assert share(files=files, memory=memory) == expected


@pytest.mark.parametrize("memory", [MIB, 200 * MIB, 256 * MIB, 512 * MIB, GIB, 64 * GIB])
def test_what_is_shared_out_is_there(memory: int) -> None:
    found = Share.of(files=65_536, memory=memory, attempts=512, kept=2000)
    used = found.attempts * MIB // 2 + found.kept * MIB // 8 + found.cache_bytes
    unread = 64 * 1024 * (found.callers + found.streams + found.pending)
    assert found.request_bytes + unread <= max(memory * 9 // 16, 64 * MIB)
    assert used <= max(memory, 6 * MIB)


def put(root: Path, place: str, limit: str) -> None:
    file = root / place
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(os.fsencode(limit + "\n"))


@pytest.mark.parametrize(
    ("groups", "limits", "expected"),
    [
        ("0::/\n", {V2.format(""): "268435456"}, 256 * MIB),
        ("0::/a/b\n", {V2.format("a/b/"): "268435456", V2.format("a/"): "max"}, 256 * MIB),
        ("0::/a/b\n", {V2.format("a/b/"): "max", V2.format("a/"): "134217728"}, 128 * MIB),
        ("3:cpu:/x\n2:cpuset,memory:/a\n", {V1.format("a/"): "268435456"}, 256 * MIB),
        ("2:memory:/docker/abc\n", {V1.format(""): "268435456"}, 256 * MIB),
        ("2:memory:/a\n0::/\n", {V1.format("a/"): UNLIMITED_V1}, None),
        ("0::/a\n", {V2.format("a/"): "max", V2.format("b/"): "1048576"}, None),
        ("0::/caf\udce9\n", {V2.format("caf\udce9/"): "268435456"}, 256 * MIB),
        ("0::/\n", {}, None),
        ("", {}, None),
    ],
)
def test_the_limit_of_memory_is_the_least_of_all_control_groups(
    tmp_path: Path, groups: str, limits: dict[str, str], expected: int | None
) -> None:
    without_any = memory_limit(tmp_path)
    put(tmp_path, "proc/self/cgroup", groups.rstrip("\n"))
    for place, limit in limits.items():
        put(tmp_path, place, limit)
    assert memory_limit(tmp_path) == (expected or without_any)
    assert without_any > 256 * MIB


def test_how_much_is_in_use_is_told() -> None:
    assert 10 * MIB < resident_bytes() < memory_limit()
