"""How one thread follows another from core to core."""

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from signalpost.process import SameCore

CORES = sorted(os.sched_getaffinity(0))


class Walker:
    """A thread that goes to the core it is told."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1)
        self.id = self._thread.submit(threading.get_native_id).result()

    def go(self, *cores: int) -> None:
        self._thread.submit(os.sched_setaffinity, 0, set(cores)).result()

    def end(self) -> None:
        self._thread.shutdown()


@pytest.fixture
def walker() -> Iterator[Walker]:
    walker = Walker()
    yield walker
    walker.end()


def elsewhere(act: Callable[[], set[int]]) -> set[int]:
    """Act in a thread of its own, for where this one may run is not to change."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        return thread.submit(act).result()


def test_a_thread_follows_the_other_to_each_core(walker: Walker) -> None:
    def follow() -> set[int]:
        same = SameCore(walker.id)
        for core in (*CORES, *CORES):
            walker.go(core)
            same.join()
            assert os.sched_getaffinity(0) == {core}
        walker.go(*CORES)
        same.leave()
        return os.sched_getaffinity(0)

    assert elsewhere(follow) == set(CORES)


def test_without_the_other_thread_nothing_is_bound(walker: Walker) -> None:
    def follow() -> set[int]:
        same = SameCore(walker.id)
        same.join()
        same.leave()
        walker.end()
        same.join()
        return os.sched_getaffinity(0)

    assert elsewhere(follow) == set(CORES)


def test_where_the_system_knows_no_cores_nothing_is_done(
    walker: Walker, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as system:
        system.delattr(os, "sched_setaffinity")
        same = SameCore(walker.id)
    same.join()
    same.leave()
    assert os.sched_getaffinity(0) == set(CORES)
