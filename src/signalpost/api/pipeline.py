"""Answers a stream of requests in their order, several in work at once.

What is unanswered is bounded: beyond that nothing is read, and the flow control of HTTP/2
holds the client back.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Final, Generic, TypeVar

from google.protobuf.message import Message

MOST_UNANSWERED: Final = 16
"""Most requests without an answer."""

MOST_UNANSWERED_BYTES: Final = 1024 * 1024
"""With so many bytes unanswered, nothing more is read."""

_Request = TypeVar("_Request", bound=Message)
_Response = TypeVar("_Response", bound=Message)


class Pipeline(Generic[_Request, _Response]):
    """Begins to answer each request as it comes, and responds in their order.

    `answer` is begun for one request after the other, `respond` hands its answer over. Runs
    once.
    """

    def __init__(
        self,
        answer: Callable[[_Request], Coroutine[None, None, _Response]],
        respond: Callable[[_Response], Awaitable[None]],
    ) -> None:
        self._answer = answer
        self._respond = respond
        self._under_way: asyncio.Queue[tuple[asyncio.Task[_Response], int] | None]
        self._under_way = asyncio.Queue()
        self._tasks: set[asyncio.Task[_Response]] = set()
        self._count = 0
        self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()

    async def run(self, requests: AsyncIterator[_Request]) -> None:
        """Answer all requests.

        A failure to read or to answer one is raised once those before it are answered; what is
        under way then is cancelled.
        """
        reading = asyncio.create_task(self._read(requests))
        try:
            while (first := await self._under_way.get()) is not None:
                task, size = first
                await self._respond(await task)
                self._weigh(-1, -size)
            await reading
        finally:
            left = (reading, *self._tasks)
            for one in left:
                one.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _read(self, requests: AsyncIterator[_Request]) -> None:
        try:
            async for request in requests:
                task = asyncio.create_task(self._answer(request))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                size = request.ByteSize()
                self._under_way.put_nowait((task, size))
                self._weigh(1, size)
                await self._room.wait()
        finally:
            self._under_way.put_nowait(None)

    def _weigh(self, count: int, size: int) -> None:
        self._count += count
        self._bytes += size
        if self._count < MOST_UNANSWERED and self._bytes < MOST_UNANSWERED_BYTES:
            self._room.set()
        else:
            self._room.clear()
