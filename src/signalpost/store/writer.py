"""The one thread that writes, and how concurrent writes share a transaction.

A round takes all jobs that wait, up to a limit, and runs them in one transaction: jobs of one
verb together, one verb after another. One flush makes all of them durable; then their callers
are answered. Expected failures are answers and disturb nobody. If anything else goes wrong,
the round is rolled back and each job tried alone, so that a bad one fails only itself.

The loop puts rounds together, and gives the thread the next one when it has heard of the end
of the last: by then those who were answered have asked again. So a flush serves many, the
thread is woken once a round, and of the two the loop goes first. Calls from outside take their
time between two requests: after a small round of several of them, and of nothing else, the
thread lets more come. Claims and outcomes wait for nobody, for the next attempt waits for them.

When the disk is full, the reserve is given up for what must be kept, and jobs of verbs that
can wait are refused until it is there again.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from signalpost import failpoints
from signalpost.domain.errors import SignalpostError, StorageFull, StorageUnavailable
from signalpost.store.engine import (
    WAY_OUT,
    bears_damage,
    breaks_connection,
    changed_rows,
    checkpoint,
    give_back,
    is_damage,
    storage_error,
)
from signalpost.store.news import News
from signalpost.store.reserve import Reserve
from signalpost.store.same_core import SameCore, stand_back
from signalpost.store.tally import Tally

A = TypeVar("A")
R = TypeVar("R")

_logger: Final = logging.getLogger(__name__)

MOST_JOBS = 1000
MOST_BYTES = 4 * 1024 * 1024
"""Bounds of a round: they bound the time until its first caller is answered."""

_BYTES_A_ROW = 2048
_CHECKPOINT_AFTER_BYTES = 8 * 1024 * 1024

_BYTES_A_CHANGE = 512
"""About what a row takes of the WAL that is written along with many others."""

_IDLE_SECONDS = 0.05

_BUSY_JOBS = 8
"""From so many callers in a round on there is much to do."""

_FEW_JOBS = range(2, 16)
"""So few callers in a round, and yet several, that others may be about to come."""

_FEW_BYTES = 128 * 1024
"""What so little of a round writes costs less than its flush."""

_QUIET_SECONDS = 0.0003
_LONGEST_GATHERING_SECONDS = 0.003


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Verb(Generic[A, R]):
    """Something to do in a write transaction, for many callers at once.

    `run` answers each of them, a `SignalpostError` being the answer of one that fails without
    having written anything. `before_commit` and `after_commit` name failpoints. What `can_wait`
    is refused while storage is full.
    """

    run: Callable[[Connection, Sequence[A]], Sequence[R | SignalpostError]]
    before_commit: str = ""
    after_commit: str = ""
    can_wait: bool = False


def one_by_one(
    function: Callable[[Connection, A], R],
    *,
    before_commit: str = "",
    after_commit: str = "",
    can_wait: bool = False,
) -> Verb[A, R]:
    """Make a verb of a function for one caller. It may raise SignalpostError before it writes."""

    def answer(conn: Connection, argument: A) -> R | SignalpostError:
        try:
            return function(conn, argument)
        except SignalpostError as error:
            return error

    return Verb(
        run=lambda conn, arguments: [answer(conn, argument) for argument in arguments],
        before_commit=before_commit,
        after_commit=after_commit,
        can_wait=can_wait,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    verb: Verb[Any, Any]
    argument: Any
    weight: int
    future: asyncio.Future[Any]
    told: Callable[[Any], None] | None


class Writer:
    """Owns the connection that writes. Created, called and closed in one event loop.

    What verbs count in `tally` is stored with what they do. `on_rollback` is called in its
    thread when what they did has not come to pass.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        reserve: Reserve,
        tally: Tally,
        news: News,
        on_rollback: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._reserve = reserve
        self._tally = tally
        self._news = news
        self._on_rollback = on_rollback
        self._loop = asyncio.get_running_loop()
        self._core = SameCore(threading.get_native_id())
        self._waiting: deque[_Job] = deque()
        self._rounds: queue.SimpleQueue[list[_Job] | None] = queue.SimpleQueue()
        self._is_idle = True
        self._conn: Connection | None = None
        self._bytes_since_checkpoint = 0
        self._changes = 0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="store-writer", daemon=True)
        self._thread.start()

    async def submit(
        self,
        verb: Verb[A, R],
        argument: A,
        *,
        content_bytes: int = 0,
        told: Callable[[R], None] | None = None,
    ) -> R:
        """Run a verb and return its answer once that is durable.

        A caller that is cancelled leaves a job that is done wholly or not at all; of one that
        is done `told` hears, before the caller does if that is still there.
        """
        if self._closed:
            raise StorageUnavailable
        future: asyncio.Future[R] = self._loop.create_future()
        weight = content_bytes + _BYTES_A_ROW
        self._waiting.append(
            _Job(verb=verb, argument=argument, weight=weight, future=future, told=told)
        )
        if self._is_idle:
            self._is_idle = False
            self._begin_soon()
        return await future

    async def aclose(self) -> None:
        """Finish what was submitted, bring the WAL home and close the connection."""
        if not self._closed:
            self._closed = True
            if self._is_idle:
                self._rounds.put(None)
        await asyncio.to_thread(self._thread.join)

    def _begin_soon(self) -> None:
        """Begin a round after what the loop has to do at once."""
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        jobs: list[_Job] = []
        weight = 0
        while self._waiting and len(jobs) < MOST_JOBS and weight < MOST_BYTES:
            job = self._waiting.popleft()
            # A caller that was cancelled before the round began is not served.
            if not job.future.cancelled():
                jobs.append(job)
                weight += job.weight
        if jobs:
            self._rounds.put(jobs)
            return
        self._is_idle = True
        if self._closed:
            self._rounds.put(None)

    def _work(self) -> None:
        stand_back()
        while (jobs := self._take()) is not None:
            if jobs:
                self._serve(jobs)
                self._call(self._begin_soon)
            if self._bytes_since_checkpoint > _CHECKPOINT_AFTER_BYTES or not jobs:
                self._checkpoint()
            if not jobs:
                self._core.leave()
                self._give_back()
        self._core.leave()
        self._checkpoint()
        self._drop_connection()

    def _serve(self, jobs: list[_Job]) -> None:
        try:
            if len(jobs) >= _BUSY_JOBS:
                self._core.join()
            else:
                self._core.part()
            self._round(jobs if self._reserve.hold() else self._refuse(jobs))
            if _could_have_been_more(jobs):
                self._gather()
        except Exception as error:  # whatever it is, nobody must wait for ever
            _logger.exception("the writer failed")
            self._answer([(job, error) for job in jobs])

    def _gather(self) -> None:
        """Let more callers share the next flush, until none has come for a moment.

        Not if one of them cannot wait: an attempt that is not recorded holds up the next one.
        """
        latest = time.monotonic() + _LONGEST_GATHERING_SECONDS
        former = -1
        while (waiting := len(self._waiting)) != former and time.monotonic() < latest:
            # The loop takes nothing away meanwhile.
            come = (self._waiting[at] for at in range(max(former, 0), waiting))
            if not all(job.verb.can_wait for job in come):
                return
            former = waiting
            time.sleep(_QUIET_SECONDS)

    def _take(self) -> list[_Job] | None:
        """Wait for a round; an empty one means idle, None that there is no other."""
        is_idle_work_left = self._bytes_since_checkpoint or self._core.is_shared
        timeout = _IDLE_SECONDS if is_idle_work_left else None
        try:
            return self._rounds.get(timeout=timeout)
        except queue.Empty:
            return []

    def _refuse(self, jobs: list[_Job]) -> list[_Job]:
        """Refuse what can wait, for storage is full; return the other jobs."""
        self._answer([(job, StorageFull()) for job in jobs if job.verb.can_wait])
        return [job for job in jobs if not job.verb.can_wait]

    def _round(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        weight = sum(job.weight for job in jobs)
        self._bytes_since_checkpoint += weight
        try:
            answers = self._transact(jobs)
        except Exception as error:  # noqa: BLE001 - whatever it is, the callers hear of it
            self._undone(error)
            self._after_failure(jobs, error)
        else:
            self._answer(list(zip(jobs, answers, strict=True)))
            # An event may go to thousands of subscriptions.
            changes = changed_rows(self._conn) - self._changes
            self._changes += changes
            self._bytes_since_checkpoint += max(0, changes * _BYTES_A_CHANGE - weight)

    def _after_failure(self, jobs: list[_Job], error: Exception) -> None:
        """Try again in the way that may help, or tell the callers."""
        failure = storage_error(error)
        if self._conn is not None and bears_damage(self._conn, error):
            # The error itself has that text in it.
            _logger.error("text in the database is damaged: what it is of fails")
            self._round(jobs)
        elif isinstance(failure, StorageFull) and self._reserve.release():
            self._round(self._refuse(jobs))
        elif len(jobs) > 1 and not isinstance(failure, StorageUnavailable):
            for job in jobs:
                self._round([job])
        else:
            if is_damage(error):
                _logger.critical("the database is damaged: %s", WAY_OUT)
            self._answer([(job, failure or error) for job in jobs])

    def _transact(self, jobs: list[_Job]) -> list[Any]:
        if self._conn is None:
            self._conn, self._changes = self._engine.connect(), 0
            self._tally.join(self._conn)
            self._news.attach(self._conn)
        by_verb: dict[Verb[Any, Any], list[int]] = {}
        for at, job in enumerate(jobs):
            by_verb.setdefault(job.verb, []).append(at)
        answers: list[Any] = [None] * len(jobs)
        with self._conn.begin():
            for verb, places in by_verb.items():
                results = verb.run(self._conn, [jobs[at].argument for at in places])
                for at, result in zip(places, results, strict=True):
                    answers[at] = result
            self._tally.write(self._conn)
            for verb in by_verb:
                failpoints.hit(verb.before_commit)
            self._news.before_commit(self._conn)
        self._tally.commit()
        self._news.after_commit()
        for verb, places in by_verb.items():
            _hit_after_commit(verb, answers, places)
        return answers

    def _undone(self, error: Exception) -> None:
        self._tally.discard()
        self._news.forget()
        self._on_rollback()
        if breaks_connection(error):
            self._drop_connection()

    def _drop_connection(self) -> None:
        conn, self._conn = self._conn, None
        if conn is not None:
            with suppress(DBAPIError):
                conn.close()

    def _checkpoint(self) -> None:
        self._bytes_since_checkpoint = 0
        if self._conn is not None:
            checkpoint(self._conn)

    def _give_back(self) -> None:
        """Make the file a little smaller if it can be; what that wrote wants a checkpoint."""
        if self._conn is not None:
            self._bytes_since_checkpoint += give_back(self._conn)

    def _answer(self, answers: list[tuple[_Job, Any]]) -> None:
        self._call(partial(_settle, answers))

    def _call(self, function: Callable[[], None]) -> None:
        # The loop may be gone, and its callers with it.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(function)


def _could_have_been_more(jobs: Sequence[_Job]) -> bool:
    """Tell whether a round was of callers who come one after the other: those from outside."""
    return (
        len(jobs) in _FEW_JOBS
        and all(job.verb.can_wait for job in jobs)
        and sum(job.weight for job in jobs) < _FEW_BYTES
    )


def _hit_after_commit(verb: Verb[Any, Any], answers: list[Any], places: list[int]) -> None:
    try:
        failpoints.hit(verb.after_commit)
    except failpoints.InjectedFault as fault:
        for at in places:
            answers[at] = fault


def _settle(answers: list[tuple[_Job, Any]]) -> None:
    for job, answer in answers:
        failed = isinstance(answer, BaseException)
        if job.told is not None and not failed:
            job.future.get_loop().call_soon(job.told, answer)
        if job.future.done():
            continue
        if failed:
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)
