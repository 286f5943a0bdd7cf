"""How two threads come to share a core, and part again."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

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


def test_a_thread_that_was_started_meanwhile_is_set_free_as_well(pair: Pair) -> None:
    pair.join()
    started: list[Thread] = []
    pair.delivers.do(lambda: started.append(Thread()))
    assert len(started[0].may_run_on) == 1
    pair.leave()
    assert started[0].may_run_on == CORES
    started[0].end()


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
