"""Delivering stored events to a subscription again.

A replay is stored before its first delivery is queued, and goes on page by page, whoever waits
for it, also after a restart. All replays take turns, so that a long one holds up no other.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from signalpost.domain.errors import NotFound, Retryable
from signalpost.domain.ids import ReplayKey
from signalpost.domain.replay import Replay, ReplayOrder
from signalpost.ports import Clock, LaneNotices
from signalpost.ports.repair import ReplayStore

PAGE: Final = 100
"""Deliveries that one transaction queues at most: they keep the writer for milliseconds."""

_COUNTED_PAGE: Final = 5000

_PAUSE_SECONDS: Final = 30.0

_logger: Final = logging.getLogger(__name__)


class Replayer:
    """Takes orders for replays, and works them off. One of it runs in a process."""

    def __init__(self, store: ReplayStore, *, lanes: LaneNotices, clock: Clock) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._ordered = asyncio.Event()
        self._awaited: dict[ReplayKey, asyncio.Future[Replay]] = {}

    async def count(self, order: ReplayOrder) -> int:
        """Tell how many deliveries a replay would queue. Raises NotFound."""
        now = self._clock.now()
        count, after = 0, None
        while True:
            page = await self._store.find_replayable(
                order, after=after, limit=_COUNTED_PAGE, now=now
            )
            count, after = count + len(page.items), page.next_position
            if after is None:
                return count

    async def replay(self, order: ReplayOrder, *, request_id: str | None) -> int:
        """Queue deliveries; return how many that were, once all of them are.

        A caller that goes away leaves a replay that goes on. With the `request_id` of a former
        one, that is waited for. Raises NotFound, RequestIdConflict, StateInvalid.
        """
        now = self._clock.now()
        replay = await self._store.begin_replay(order, request_id=request_id, now=now)
        if not replay.ended:
            awaited = self._awaited.get(replay.key)
            if awaited is None:
                awaited = self._awaited[replay.key] = asyncio.Future()
            self._ordered.set()
            replay = await asyncio.shield(awaited)
        return replay.delivery_count

    async def run(self) -> None:
        """Work off replays for ever, half of the time, so that other calls are not held up."""
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if await self.run_once():
                    await asyncio.sleep(loop.time() - began)
                else:
                    await self._ordered.wait()
            except Retryable as error:
                _logger.warning("replays wait for storage: %s", error)
                await asyncio.sleep(error.retry_seconds)
            except Exception:  # replays that fail must not stop the service
                _logger.exception("replays failed inside the service; they are tried again")
                await asyncio.sleep(_PAUSE_SECONDS)

    async def run_once(self) -> int:
        """Take every replay a page further; return how many are left."""
        self._ordered.clear()
        left = 0
        for replay in await self._store.running_replays():
            left += not await self._go_on(replay)
        await self._tell_ended()
        return left

    async def _go_on(self, replay: Replay) -> bool:
        """Queue a page; tell whether it was the last."""
        now = self._clock.now()
        try:
            page = await self._store.find_replayable(
                replay.order, after=replay.position, limit=PAGE, now=now
            )
            replayed = await self._store.queue_page(replay, page, now=now)
        except Retryable:
            raise
        except NotFound:  # its subscription is deleted
            await self._store.end_replay(replay.key, now=now)
            return True
        except Exception:  # one replay that fails must not stop the others
            _logger.exception("a replay failed inside the service", extra=_fields(replay))
            await self._store.end_replay(replay.key, now=now)
            return True
        if replayed.lane is not None:
            self._lanes.notice([replayed.lane], due=now)
        if replayed.replay.ended:
            _logger.info("deliveries replayed", extra=_fields(replayed.replay))
        return replayed.replay.ended

    async def _tell_ended(self) -> None:
        for key in list(self._awaited):
            replay = await self._store.get_replay(key)
            if replay.ended:
                self._awaited.pop(key).set_result(replay)


def _fields(replay: Replay) -> dict[str, object]:
    return {
        "tenant_id": replay.order.tenant_id,
        "subscription_id": replay.order.subscription_id,
        "scope": replay.order.scope.name,
        "queued": replay.delivery_count,
    }
