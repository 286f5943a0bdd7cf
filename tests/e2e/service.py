"""The real service: `signalpost serve` as a process of its own."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import grpc.aio
from google.protobuf.duration_pb2 import Duration

from signalpost.v1.delivery_pb2 import Delivery
from signalpost.v1.delivery_service_pb2 import ListDeliveriesRequest
from signalpost.v1.delivery_service_pb2_grpc import DeliveryServiceStub
from signalpost.v1.event_pb2 import Event, EventFilter, Resource
from signalpost.v1.event_service_pb2 import PublishRequest, PublishResult
from signalpost.v1.event_service_pb2_grpc import EventServiceStub
from signalpost.v1.subscription_pb2 import RetryPolicy, Subscription
from signalpost.v1.subscription_service_pb2 import CreateSubscriptionRequest
from signalpost.v1.subscription_service_pb2_grpc import SubscriptionServiceStub
from tests.e2e.forked import Process, fork

START_SECONDS = 30


@dataclass
class Service:
    """Starts, kills and stops one server; its database stays in `folder` from run to run.

    `within` is a command that runs another one within limits. A service with limits or an
    environment of its own loads all of its code anew, others are forked.
    """

    folder: Path
    ca: Path
    options: tuple[str, ...] = ("--dev",)
    listen: str = "127.0.0.1:0"
    environment: dict[str, str] = field(default_factory=dict)
    within: tuple[str, ...] = ()
    process: Process | None = None
    log: list[str] = field(default_factory=list)
    _logged: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def start(self, *, failpoint: str = "") -> Self:
        await self._spawn(failpoint)
        async with asyncio.timeout(START_SECONDS):
            serving = await self._until_serving()
        self.address, self.http = serving["grpc"], serving["http"]
        self._reading = asyncio.create_task(self._read_on())
        self.channel = grpc.aio.insecure_channel(self.address)
        self.events = EventServiceStub(self.channel)
        self.subscriptions = SubscriptionServiceStub(self.channel)
        self.deliveries = DeliveryServiceStub(self.channel)
        return self

    async def die_at(self, failpoint: str) -> int:
        """Start it; wait until it kills itself at a failpoint, and return its exit code."""
        await self._spawn(f"{failpoint}:kill")
        assert self.process is not None
        async with asyncio.timeout(START_SECONDS):
            await self._read_on()
        return await self.process.wait()

    async def _spawn(self, failpoint: str) -> None:
        command = (
            *("serve", *self.options),
            *("--database", f"sqlite:///{self.folder / 'signalpost.db'}"),
            *("--listen", self.listen, "--http", "127.0.0.1:0", "--egress-ca", str(self.ca)),
        )
        environment = _untraced() | self.environment | {"SIGNALPOST_FAILPOINT": failpoint}
        if not self.environment and not self.within:
            self.process = await fork(*command, environment=environment)
            return
        self.process = await asyncio.create_subprocess_exec(
            *(*self.within, sys.executable, "-m", "signalpost", *command),
            env=environment,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )

    async def kill(self) -> None:
        """End it as a power cut of the process would."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """Ask it to end and return its exit code."""
        return await self._end(signal.SIGTERM)

    async def ended(self) -> int:
        """Wait until it ended by itself."""
        assert self.process is not None
        code = await self.process.wait()
        await self._reading
        await self.channel.close()
        return code

    async def _end(self, number: signal.Signals) -> int:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await self.ended()

    async def _until_serving(self) -> dict[str, str]:
        while line := await self._read_line():
            entry = json.loads(line) if line.startswith("{") else {}
            if entry.get("message") == "serving":
                return dict(entry)
        raise AssertionError("the service did not start:\n" + "\n".join(self.log))

    async def _read_on(self) -> None:
        while await self._read_line():
            pass

    async def _read_line(self) -> str:
        assert self.process is not None
        assert self.process.stderr is not None
        line = (await self.process.stderr.readline()).decode()
        async with self._logged:
            if line:
                self.log.append(line.rstrip("\n"))
            self._logged.notify_all()
        return line

    async def reload(self) -> None:
        """Have the settings read anew, and wait until that is done or refused."""
        assert self.process is not None
        before = len(self._reloads())
        self.process.send_signal(signal.SIGHUP)
        async with asyncio.timeout(START_SECONDS), self._logged:
            await self._logged.wait_for(lambda: len(self._reloads()) > before)

    def _reloads(self) -> list[str]:
        return [line for line in self.log if "the egress settings" in line]

    async def logged(self, message: str) -> None:
        """Wait until the service logged this message."""
        async with asyncio.timeout(START_SECONDS), self._logged:
            await self._logged.wait_for(lambda: any(f'"{message}"' in line for line in self.log))

    async def subscribe(
        self,
        url: str,
        *,
        subscription_id: str = "",
        tenant_id: str = "",
        event_types: Sequence[str] = (),
        max_attempts: int = 20,
        ordered: bool = False,
    ) -> str:
        """Create a subscription that retries every second, and return its secret."""
        second = Duration(seconds=1)
        subscription = Subscription(
            subscription_id=subscription_id,
            tenant_id=tenant_id,
            endpoint_uri=url,
            filter=EventFilter(event_types=event_types),
            retry_policy=RetryPolicy(
                max_attempts=max_attempts, min_backoff=second, max_backoff=second
            ),
            ordered=ordered,
        )
        request = CreateSubscriptionRequest(subscription=subscription)
        return (await self.subscriptions.CreateSubscription(request)).secret

    async def publish(self, *events: Event) -> list[PublishResult]:
        request = PublishRequest(events=events)
        response = await self.events.Publish(request, timeout=30)
        return list(response.results)

    async def list_deliveries(self) -> list[Delivery]:
        """Return every delivery there is."""
        found: list[Delivery] = []
        request = ListDeliveriesRequest(tenant_id="-", page_size=1000)
        while True:
            page = await self.deliveries.ListDeliveries(request)
            found.extend(page.deliveries)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def drained(self, *, seconds: float = 60) -> list[Delivery]:
        """Wait until nothing is pending; return all deliveries."""
        async with asyncio.timeout(seconds):
            while True:
                deliveries = await self.list_deliveries()
                if all(d.state != Delivery.PENDING for d in deliveries):
                    return deliveries
                await asyncio.sleep(0.1)


def _untraced() -> dict[str, str]:
    """The environment of the tests, but for where their own traces go."""
    return {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}


def connected(event_id: str = "", *, resource: str = "acc_1", tenant: str = "") -> Event:
    """An `account.connected` event."""
    event = Event(event_id=event_id, tenant_id=tenant, resource=Resource(id=resource))
    event.account_connected.integration = "gmail"
    return event
