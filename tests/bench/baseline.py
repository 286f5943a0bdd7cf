"""The floor under a publish: the same rpc and the same commit, without validation and rendering.

The frame around the call is that of the service: deadline, errors, credentials. A process of
its own, as the server is: `python -m tests.bench.baseline <database URL>`.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime

import grpc.aio
import uvloop

from signalpost.api.boundary import Boundary
from signalpost.api.intake import Intake
from signalpost.domain.event import Event, Resource
from signalpost.domain.ids import EventId, TenantId
from signalpost.process import Share, memory_limit
from signalpost.store.store import Store
from signalpost.telemetry.tracing import UNTRACED
from signalpost.v1 import event_service_pb2
from signalpost.v1.event_service_pb2 import PublishRequest, PublishResponse, PublishResult
from tests.bench.loops import BODY

RESOURCE = Resource("account", "acc_42")


class Floor:
    """Stores what comes, with a body and a digest that are always the same."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def Publish(self, request: PublishRequest, _: object) -> PublishResponse:
        now = datetime.now(UTC)
        accepted = await self._store.accept(
            [
                Event(
                    event_id=EventId(event.event_id),
                    tenant_id=TenantId(event.tenant_id),
                    event_type="account.connected",
                    resource=RESOURCE,
                    body=BODY,
                    digest=bytes(32),
                    traceparent="",
                    publish_time=now,
                )
                for event in request.events
            ],
            now=now,
        )
        return PublishResponse(
            results=[
                PublishResult(event_id=each.event_id, delivery_count=each.delivery_count)
                for each in accepted
            ]
        )


async def main(database: str) -> None:
    store = await Store.open(database, master_key=None)
    server = grpc.aio.server()
    share = Share.of(files=65_536, memory=memory_limit(), attempts=512, kept=2000)
    boundary = Boundary(new_id=lambda: "", tracing=UNTRACED, intake=Intake(share))
    service = event_service_pb2.DESCRIPTOR.services_by_name["EventService"]
    server.add_generic_rpc_handlers((boundary.handlers(service, Floor(store)),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(json.dumps({"port": port}) + "\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)
    await store.aclose()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1]))
