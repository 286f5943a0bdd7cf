"""A service that dies, again and again, and what it leaves in its file."""

import signal
import sqlite3
from contextlib import closing

import grpc.aio

from tests.e2e.service import Service


def leased(service: Service) -> int:
    """Count what a service that is dead had in flight."""
    with closing(sqlite3.connect(service.folder / "signalpost.db")) as connection:
        [count] = connection.execute(
            "SELECT count(*) FROM queue WHERE lease_until IS NOT NULL"
        ).fetchone()
    return int(count)


async def outlive(service: Service, *, failpoint: str) -> int:
    """Start it until it lives to see the end of all deliveries; return how often it died."""
    deaths = 0
    while True:
        try:
            await service.start(failpoint=failpoint)
        except AssertionError:
            assert service.process is not None
            # It may hold the database until it is gone.
            assert await service.process.wait() == -signal.SIGKILL
            deaths += 1
            continue
        try:
            await service.drained()
        except grpc.aio.AioRpcError:
            assert await service.ended() == -signal.SIGKILL
            deaths += 1
        else:
            return deaths
