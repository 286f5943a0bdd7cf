"""A tenant with more endpoints that never answer than there are slots, and another tenant."""

import asyncio
from contextlib import AsyncExitStack

from tests.e2e.receiver import Receiver
from tests.e2e.service import Service, connected

FILES = 256
SLOTS = FILES // 4
"""A quarter of the files is for attempts."""

MUTE = 100


async def test_mute_endpoints_of_one_tenant_leave_slots_for_others(
    service: Service, receiver: Receiver
) -> None:
    service.within = ("prlimit", f"--nofile={FILES}:{FILES}")
    await service.start()
    changed = asyncio.Condition()
    opened = closed = 0

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, closed
        opened += 1
        async with changed:
            changed.notify_all()
        while await reader.read(65536):
            pass
        closed += 1
        writer.close()

    async with AsyncExitStack() as stack:
        for number in range(MUTE):
            # Each is a host of its own.
            mute = await asyncio.start_server(accept, f"127.1.0.{number + 1}", 0)
            stack.callback(mute.close)
            address, port = mute.sockets[0].getsockname()
            await service.subscribe(
                f"http://{address}:{port}/", subscription_id=f"mute-{number}", tenant_id="loud"
            )
        await service.subscribe(receiver.url(), tenant_id="quiet")
        loud, quiet = connected("e1"), connected("e2")
        loud.tenant_id, quiet.tenant_id = "loud", "quiet"
        await service.publish(loud)
        async with asyncio.timeout(30), changed:
            await changed.wait_for(lambda: opened >= SLOTS / 2)
        await service.publish(quiet)
        await receiver.until(lambda: receiver.requests)
        assert opened == SLOTS / 2
        assert closed == 0
        await service.kill()
