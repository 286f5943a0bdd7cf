"""How two threads come to share a core, and part again."""

import os
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from signalpost.store import same_core
from signalpost.store.same_core import APART_SECONDS, TOGETHER_SECONDS, SameCore, stand_back

CORES = os.sched_getaffinity(0)

pytestmark = pytest.mark.skipif(len(CORES) == 1, reason="there is one core only")


class Thread:
    """A thread that acts when it is told to."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.id = self._thread.submit(threading.get_native_id).result()

    def do(self, act: Callable[[], None]) -> None:
        self._thread.submit(act).result()

    def go(self, *cores: int) -> None:
        self.do(lambda: os.sched_setaffinity(0, cores))

    @property
    def may_run_on(self) -> set[int]:
        return os.sched_getaffinity(self.id)

    def end(self) -> None:
        self._thread.shutdown()


class Pair:
    """A thread that delivers and one that writes, and the time that passes for them."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.delivers, self.writes = Thread(), Thread()
        self.core = SameCore(self.delivers.id, monotonic=lambda: self.now)

    def join(self) -> None:
        self.writes.do(self.core.join)

    def part(self) -> None:
        self.writes.do(self.core.part)

    def leave(self) -> None:
        self.writes.do(self.core.leave)

    @property
    def shared(self) -> set[int]:
        assert self.delivers.may_run_on == self.writes.may_run_on
        return self.writes.may_run_on


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.delivers.end()
    pair.writes.end()


def test_both_stay_on_a_core_until_they_part(pair: Pair) -> None:
    pair.join()
    assert len(pair.shared) == 1
    pair.leave()
    assert pair.shared == CORES
    pair.join()
    assert len(pair.shared) == 1


def test_the_system_may_choose_another_core_every_second(pair: Pair) -> None:
    pair.join()
    pair.now += TOGETHER_SECONDS * 0.9
    pair.join()
    assert len(pair.shared) == 1
    pair.now += TOGETHER_SECONDS * 0.2
    pair.join()
    assert pair.shared == CORES
    pair.now += APART_SECONDS / 2
    pair.join()
    assert pair.shared == CORES
    pair.now += APART_SECONDS
    pair.join()
    assert len(pair.shared) == 1


def test_with_less_to_do_they_part_when_it_is_time_to(pair: Pair) -> None:
    pair.part()
    assert pair.shared == CORES
    pair.join()
    pair.now += TOGETHER_SECONDS * 0.9
    pair.part()
    assert len(pair.shared) == 1
    pair.now += TOGETHER_SECONDS * 0.2
    pair.part()
    assert pair.shared == CORES
    pair.join()
    assert pair.shared == CORES
    pair.now += APART_SECONDS
    pair.join()
    assert len(pair.shared) == 1


def test_a_thread_that_was_started_meanwhile_is_set_free_as_well(pair: Pair) -> None:
    pair.join()
    started: list[Thread] = []
    pair.delivers.do(lambda: started.append(Thread()))
    assert len(started[0].may_run_on) == 1
    pair.leave()
    assert started[0].may_run_on == CORES
    started[0].end()


def test_a_thread_that_is_started_while_others_are_set_free_is_free(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, started = same_core._threads, list[Thread]()

    def then_start() -> Iterator[int]:
        threads = list(listed())
        pair.delivers.do(lambda: started.append(Thread()))
        yield from threads

    monkeypatch.setattr(same_core, "_threads", then_start)
    pair.join()
    pair.leave()
    assert started[0].may_run_on == CORES
    started[0].end()


def test_both_are_set_free_if_the_threads_cannot_be_listed(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pair.join()
    assert len(pair.shared) == 1
    monkeypatch.setattr(same_core, "_THREADS", tmp_path / "no file is left to list them")
    pair.leave()
    assert pair.shared == CORES


@pytest.mark.parametrize("stat", ["", "1 (loop) S 1 2 3", "1 (loop)" + " x" * 50])
def test_where_the_system_does_not_tell_the_core_nothing_is_bound(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stat: str
) -> None:
    with monkeypatch.context() as system:
        system.setattr(same_core, "_THREADS", tmp_path)
        (tmp_path / str(pair.delivers.id)).mkdir()
        (tmp_path / str(pair.delivers.id) / "stat").write_text(stat)
        pair.join()
        assert pair.shared == CORES
    pair.now += TOGETHER_SECONDS
    pair.join()
    assert len(pair.shared) == 1


def test_a_core_on_which_the_other_must_not_run_any_more_is_not_taken(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as system:
        system.setattr(same_core, "_core_of", lambda _: max(CORES) + 1)
        pair.join()
        assert pair.shared == CORES
    pair.now += TOGETHER_SECONDS
    pair.join()
    assert len(pair.shared) == 1


def test_who_keeps_the_service_on_a_core_is_obeyed(pair: Pair) -> None:
    core = max(CORES)
    pair.delivers.go(core)
    pair.join()
    assert (pair.delivers.may_run_on, pair.writes.may_run_on) == ({core}, CORES)
    pair.delivers.go(*CORES)
    pair.now += TOGETHER_SECONDS
    pair.join()
    (shared,) = pair.shared
    other = next(iter(CORES - {shared}))
    pair.delivers.go(other)
    pair.leave()
    assert (pair.delivers.may_run_on, pair.writes.may_run_on) == ({other}, CORES)


@pytest.fixture
def every_thread() -> Iterator[list[int]]:
    """The threads of this process, which get back what they had."""
    threads = [int(thread.name) for thread in Path("/proc/self/task").iterdir()]
    before = {thread: os.sched_getaffinity(thread) for thread in threads}
    yield threads
    for thread, cores in before.items():
        os.sched_setaffinity(thread, cores)


def test_who_keeps_all_of_the_process_on_the_very_core_is_obeyed(
    pair: Pair, every_thread: list[int]
) -> None:
    pair.join()
    (shared,) = pair.shared
    for thread in every_thread:
        os.sched_setaffinity(thread, {shared})
    pair.leave()
    assert pair.shared == {shared}
    pair.now += TOGETHER_SECONDS
    pair.join()
    assert not pair.core.is_shared


@pytest.mark.parametrize("chosen", [False, True])
def test_cores_that_the_system_allows_later_are_theirs_unless_fewer_were_chosen(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, *, chosen: bool
) -> None:
    allowed, asked = os.sched_getaffinity, dict[int, frozenset[int]]()
    keep = os.sched_setaffinity

    def set_affinity(thread: int, cores: Collection[int]) -> None:
        asked[thread] = frozenset(cores)
        keep(thread, cores)

    monkeypatch.setattr(os, "sched_setaffinity", set_affinity)
    with monkeypatch.context() as system:
        if chosen:
            # As if there was one more, which the system allows and whoever chose does not.
            system.setattr(
                os, "sched_getaffinity", lambda at: allowed(at) | ({999} if not at else set())
            )
        pair.join()
    pair.leave()
    later = 512
    assert (later in asked[pair.delivers.id], later in asked[0]) == (not chosen, not chosen)
    assert pair.shared == CORES


def test_without_the_other_thread_nothing_is_bound(pair: Pair) -> None:
    pair.delivers.end()
    pair.join()
    pair.leave()
    assert pair.writes.may_run_on == CORES


def test_where_the_system_knows_no_cores_nothing_is_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as system:
        system.delattr(os, "sched_setaffinity")
        pair = Pair()
    pair.join()
    pair.leave()
    assert pair.shared == CORES


def test_a_thread_that_stands_back_does_so_only_if_nothing_else_was_chosen(pair: Pair) -> None:
    pair.writes.do(stand_back)
    assert os.sched_getscheduler(pair.writes.id) == os.SCHED_BATCH
    pair.delivers.do(lambda: os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0)))
    pair.delivers.do(stand_back)
    assert os.sched_getscheduler(pair.delivers.id) == os.SCHED_IDLE
