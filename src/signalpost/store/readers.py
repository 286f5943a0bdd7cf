"""Threads that read, each transaction on its own snapshot, beside the one that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from signalpost.domain.errors import StorageUnavailable
from signalpost.store.engine import reader_engine, storage_error

P = ParamSpec("P")
R = TypeVar("R")


class Readers:
    """A few threads with a connection each, for calls that must not wait for those of others."""

    def __init__(self, path: Path, *, threads: int) -> None:
        self._engine = reader_engine(path, connections=threads)
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="store-reader")
        self._closed = False

    async def run(
        self,
        function: Callable[Concatenate[Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        """Call a function with a connection, inside a transaction that sees what is committed."""
        if self._closed:
            raise StorageUnavailable
        loop = asyncio.get_running_loop()
        read = partial(self._read, function, *args, **kwargs)
        return await loop.run_in_executor(self._threads, read)

    def _read(
        self,
        function: Callable[Concatenate[Connection, P], R],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        try:
            with self._engine.begin() as conn:
                return function(conn, *args, **kwargs)
        except DBAPIError as error:
            raise storage_error(error) or error from None

    async def aclose(self) -> None:
        """Wait for what runs and close the connections."""
        self._closed = True
        await asyncio.to_thread(self._threads.shutdown)
        self._engine.dispose()
