"""The store as the rest of the service sees it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Self

from signalpost.domain.delivery import Delivery, Lease
from signalpost.domain.event import Event
from signalpost.domain.event_type import EventType
from signalpost.domain.ids import DeliveryKey, EventId, LaneId, SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.subscription import Subscription
from signalpost.ports import (
    Accepted,
    AttemptRecord,
    Backlog,
    DeliveryQuery,
    EventQuery,
    Paced,
    Page,
    PageRequest,
    Pick,
    Recorded,
    SubscriptionQuery,
    Told,
    Unreadable,
)
from signalpost.store.arranging import ArrangeCall, arrange, unarranged_lanes
from signalpost.store.counts import Counts
from signalpost.store.deliveries import get_delivery, list_deliveries
from signalpost.store.engine import bound_caches, writer_engine
from signalpost.store.event_types import (
    DeleteTypeCall,
    ReplaceTypeCall,
    create_event_type,
    delete_event_type,
    get_event_type,
    list_event_types,
    replace_event_type,
)
from signalpost.store.events import AcceptCall, accept, get_event, list_events, preview
from signalpost.store.lanes import paces
from signalpost.store.matching import Matching
from signalpost.store.news import News
from signalpost.store.opening import Opened, prepare, touch
from signalpost.store.outcomes import RecordCall, RescueCall, record, recover, rescue
from signalpost.store.queue import CancelCall, ClaimCall, cancel_waiting, claim
from signalpost.store.readers import Readers
from signalpost.store.repairs import Repairs
from signalpost.store.reserve import Reserve
from signalpost.store.sealing import derive
from signalpost.store.subscriptions import DeleteCall, Directory, Registrar, ReplaceCall
from signalpost.store.suspensions import Suspensions
from signalpost.store.upkeep import Upkeep
from signalpost.store.waiting import backlogs, deleted_lanes, next_due
from signalpost.store.watching import Watching
from signalpost.store.writer import Verb, Writer, one_by_one

_CALLERS_THREADS = 2
_DELIVERY_THREADS = 1
_WATCHERS_THREADS = 1
_ROW_BYTES = 2048

_CLAIM = one_by_one(claim, after_commit="claim.after_commit")
_RECORD = Verb(
    run=record,
    before_commit="outcome.before_commit",
    after_commit="outcome.after_commit",
)
_RECOVER = one_by_one(recover)
_RESCUE = one_by_one(rescue)
_ARRANGE = one_by_one(arrange)
_CANCEL_WAITING = one_by_one(cancel_waiting)
_TOUCH = one_by_one(touch, can_wait=True)
_CREATE_TYPE = one_by_one(create_event_type, can_wait=True)
_REPLACE_TYPE = one_by_one(replace_event_type, can_wait=True)
_DELETE_TYPE = one_by_one(delete_event_type)


class Store:
    """Implements the store's ports on one database; owns its connections and threads.

    `counts`, `repairs`, `suspensions`, `upkeep` and `watching` are its ports for those.
    `page_token_key` are 32 bytes that stay the same as long as the master key does.
    `last_accept_time` is that of the newest event ever when it was opened, None if there was none.
    `made_key_file` is the file of a master key that was made just now, None if it was not.
    """

    def __init__(self, opened: Opened) -> None:
        matching, news = Matching(), News()
        registrar = Registrar(opened.sealer, matching)
        self._accept = Verb(
            run=partial(accept, matching=matching, numbers=opened.numbers),
            before_commit="publish.before_commit",
            after_commit="publish.after_commit",
            can_wait=True,
        )
        self._create = one_by_one(registrar.create, can_wait=True)
        self._replace = one_by_one(
            registrar.replace,
            before_commit="change.before_commit",
            after_commit="change.after_commit",
            can_wait=True,
        )
        self._delete = one_by_one(registrar.delete)
        self._directory = Directory(opened.sealer)
        self._lock = opened.lock
        self._writer = Writer(
            writer_engine(opened.path),
            reserve=Reserve(opened.path),
            tally=opened.tally,
            news=news,
            on_rollback=matching.forget_all,
        )
        # A search through a long list must not hold up deliveries, nor watchers other calls.
        self._for_callers = Readers(opened.path, threads=_CALLERS_THREADS)
        self._for_delivery = Readers(opened.path, threads=_DELIVERY_THREADS)
        self.counts = Counts(self._writer, self._for_callers, tally=opened.tally)
        self._for_watchers = Readers(opened.path, threads=_WATCHERS_THREADS)
        self.watching = Watching(self._writer, self._for_watchers, news)
        self.repairs = Repairs(self._writer, self._for_callers, numbers=opened.numbers)
        self.upkeep = Upkeep(self._writer, self._for_callers, tally=opened.tally)
        self.suspensions = Suspensions(self._writer, matching=matching, numbers=opened.numbers)
        self.page_token_key = derive(opened.master_key.value, "signalpost page tokens")
        self.last_accept_time = opened.numbers.last_time
        self.made_key_file = opened.master_key.path if opened.master_key.made else None

    @classmethod
    async def open(cls, url: str, *, master_key: bytes | None) -> Self:
        """Open a database for this process alone, making and migrating it where needed.

        Without a `master_key` of 32 bytes, `<database>.key` holds it. Raises DatabaseRefused
        and, with it, MasterKeyInvalid.
        """
        return cls(await asyncio.to_thread(prepare, url, master_key=master_key))

    async def bound_caches(self, size: int) -> None:
        """Let what is kept in memory of the database take about so many bytes at most."""
        await self._for_callers.run(bound_caches, size)

    async def aclose(self) -> None:
        """Finish what was asked for, then let go of the database."""
        await self._for_callers.aclose()
        await self._for_watchers.aclose()
        await self._for_delivery.aclose()
        # Last, for the last connection that closes makes a checkpoint.
        await self._writer.aclose()
        self._lock.release()

    async def accept(
        self, events: Sequence[Event], *, now: datetime, told: Told | None = None
    ) -> Sequence[Accepted]:
        """Store events with what they owe, as `EventStore` says. Raises EventIdConflict."""
        answers = await self._accept_call(AcceptCall(events=events, now=now), told)
        return [answer for answer in answers if answer is not None]

    async def accept_each(
        self, events: Sequence[Event], *, now: datetime, told: Told | None = None
    ) -> Sequence[Accepted | None]:
        """Store events each on its own; None in place of one whose ID is taken."""
        return await self._accept_call(AcceptCall(events=events, now=now, each=True), told)

    async def _accept_call(self, call: AcceptCall, told: Told | None) -> Sequence[Accepted | None]:
        content_bytes = sum(len(event.body) + _ROW_BYTES for event in call.events)
        return await self._writer.submit(self._accept, call, content_bytes=content_bytes, told=told)

    async def preview(self, events: Sequence[Event]) -> Sequence[Accepted]:
        """Tell what `accept` would answer."""
        return await self._for_callers.run(preview, events)

    async def get_event(self, tenant_id: TenantId, event_id: EventId) -> Event:
        """Return a stored event. Raises NotFound."""
        return await self._for_callers.run(get_event, tenant_id, event_id)

    async def list_events(self, query: EventQuery, page: PageRequest) -> Page[Event]:
        """Return events, the newest first."""
        return await self._for_callers.run(list_events, query, page)

    async def create_event_type(self, event_type: EventType) -> EventType:
        """Store a new event type. Raises AlreadyExists."""
        content_bytes = len(event_type.schema or b"") + len(event_type.example or b"")
        return await self._writer.submit(_CREATE_TYPE, event_type, content_bytes=content_bytes)

    async def get_event_type(self, name: str) -> EventType:
        """Return an event type. Raises NotFound."""
        return await self._for_callers.run(get_event_type, name)

    async def list_event_types(self, page: PageRequest) -> Page[EventType]:
        """Return event types by name."""
        return await self._for_callers.run(list_event_types, page)

    async def replace_event_type(self, event_type: EventType, *, now: datetime) -> EventType:
        """Store a changed event type. Raises NotFound, EtagMismatch."""
        content_bytes = len(event_type.schema or b"") + len(event_type.example or b"")
        call = ReplaceTypeCall(event_type=event_type, now=now)
        return await self._writer.submit(_REPLACE_TYPE, call, content_bytes=content_bytes)

    async def delete_event_type(self, name: str, *, etag: str | None) -> None:
        """Delete an event type. Raises NotFound, EtagMismatch."""
        await self._writer.submit(_DELETE_TYPE, DeleteTypeCall(name=name, etag=etag))

    async def create(self, subscription: Subscription) -> Subscription:
        """Store a new subscription. Raises AlreadyExists."""
        return await self._writer.submit(self._create, subscription)

    async def get(self, tenant_id: TenantId, subscription_id: SubscriptionId) -> Subscription:
        """Return a subscription. Raises NotFound, or why it cannot be read."""
        return await self._for_callers.run(self._directory.get, tenant_id, subscription_id)

    async def list_subscriptions(
        self, query: SubscriptionQuery, page: PageRequest
    ) -> Page[Subscription | Unreadable]:
        """Return subscriptions by tenant and ID, each of them or why it cannot be read."""
        return await self._for_callers.run(self._directory.list_subscriptions, query, page)

    async def replace(self, subscription: Subscription, *, now: datetime) -> Subscription:
        """Store a changed subscription. Raises NotFound, EtagMismatch."""
        call = ReplaceCall(subscription=subscription, now=now)
        return await self._writer.submit(self._replace, call)

    async def delete(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        *,
        etag: str | None,
        now: datetime,
    ) -> LaneId:
        """Delete a subscription. Raises NotFound, EtagMismatch."""
        call = DeleteCall(tenant_id=tenant_id, subscription_id=subscription_id, etag=etag, now=now)
        return await self._writer.submit(self._delete, call)

    async def arrange(
        self, lane_id: LaneId, *, after: str, limit: int, now: datetime
    ) -> str | None:
        """Arrange what waits in a lane as it is ordered now; None once that is done."""
        call = ArrangeCall(lane_id=lane_id, after=after, limit=limit, now=now)
        return await self._writer.submit(_ARRANGE, call)

    async def cancel_waiting(self, lane_id: LaneId, *, limit: int, now: datetime) -> int:
        """End waiting deliveries of a lane as CANCELED; return how many."""
        call = CancelCall(lane_id=lane_id, limit=limit, now=now)
        return await self._writer.submit(_CANCEL_WAITING, call)

    async def recover(self, *, now: datetime) -> int:
        """Take up all leases of a former process; return how many."""
        return await self._writer.submit(_RECOVER, now)

    async def backlogs(self) -> Sequence[Backlog]:
        """Return every lane with something claimable."""
        return await self._for_delivery.run(backlogs)

    async def paces(self) -> Sequence[Paced]:
        """Return what was learned of endpoints."""
        return await self._for_delivery.run(paces)

    async def claim(
        self, picks: Sequence[Pick], *, now: datetime, lease_until: datetime
    ) -> Sequence[Lease]:
        """Lease what is due for longest."""
        call = ClaimCall(picks=picks, now=now, lease_until=lease_until)
        return await self._writer.submit(_CLAIM, call)

    async def next_due(self, lanes: Sequence[LaneId]) -> Mapping[LaneId, datetime]:
        """Return when the first waiting delivery of each lane is due."""
        return await self._for_delivery.run(next_due, lanes)

    async def record(self, record: AttemptRecord, *, now: datetime) -> Recorded | None:
        """Store an attempt and what follows; None if its lease was lost."""
        content_bytes = len(record.attempt.result.response_body) + _ROW_BYTES
        call = RecordCall(record=record, now=now)
        return await self._writer.submit(_RECORD, call, content_bytes=content_bytes)

    async def rescue(self, *, now: datetime, limit: int) -> Sequence[Lane]:
        """Take expired leases back; return their lanes, each once."""
        return await self._writer.submit(_RESCUE, RescueCall(now=now, limit=limit))

    async def unarranged_lanes(self) -> Sequence[Lane]:
        """Return lanes of which `arrange` has not been called to the end."""
        return await self._for_delivery.run(unarranged_lanes)

    async def deleted_lanes(self) -> Sequence[LaneId]:
        """Return lanes of deleted subscriptions in which something still waits."""
        return await self._for_delivery.run(deleted_lanes)

    async def subscriptions_of(
        self, lanes: Sequence[LaneId]
    ) -> Mapping[LaneId, Subscription | Exception]:
        """Return the subscription of each lane, or why it cannot be had."""
        return await self._for_delivery.run(self._directory.of_lanes, lanes)

    async def get_delivery(self, key: DeliveryKey) -> Delivery:
        """Return a delivery with its last 100 attempts. Raises NotFound."""
        return await self._for_callers.run(get_delivery, key)

    async def list_deliveries(self, query: DeliveryQuery, page: PageRequest) -> Page[Delivery]:
        """Return deliveries, the newest first, each with its last attempt only."""
        return await self._for_callers.run(list_deliveries, query, page)

    async def check_writable(self) -> None:
        """Make a write transaction. Raises StorageUnavailable, StorageFull."""
        await self._writer.submit(_TOUCH, None)
