"""What the core asks of the world, one section or module per consumer.

Every store method is one transaction. A method that changes something takes `now`, the
aware UTC time of the change; none reads a clock. Any of them may raise
`StorageUnavailable` (nothing is known to have changed; repeating is safe where it says so)
or `StorageFull` (nothing changed).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from signalpost.domain.delivery import Delivery, DeliveryState
from signalpost.domain.event import Event
from signalpost.domain.event_type import EventType
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, EventId, LaneId, SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.subscription import State, Subscription
from signalpost.ports.lanes import Backlog as Backlog
from signalpost.ports.lanes import LaneNotices as LaneNotices
from signalpost.ports.lanes import Paced as Paced
from signalpost.ports.lanes import Pick as Pick
from signalpost.ports.queue import AttemptRecord as AttemptRecord
from signalpost.ports.queue import DeliveryQueue as DeliveryQueue
from signalpost.ports.queue import Recorded as Recorded
from signalpost.ports.sending import Sender as Sender
from signalpost.ports.sending import WebhookRequest as WebhookRequest

T = TypeVar("T")


class Clock(Protocol):
    """Tells the time, for the machine and for people."""

    def now(self) -> datetime:
        """Return the aware UTC time, which passes evenly: it neither jumps nor runs back.

        Leases, delays and all that is on record go by it.
        """
        ...

    def wall(self) -> datetime:
        """Return what the wall clock says, for those who compare it with their own."""
        ...


# Lists, for every reader.


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRequest:
    """At most `size` items and about `max_bytes`, after the position `after` of a former page."""

    size: int
    max_bytes: int = 3 * 1024 * 1024
    after: str | None = None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Items in their order; `next_after` is the position to go on from, None at the end.

    A page may be short, even empty, and yet not be the last: a search through much that
    does not match ends early.
    """

    items: Sequence[T]
    next_after: str | None


# For `publishing`.


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What became of an event: `lanes` are those in which a delivery of it may go now."""

    event_id: EventId
    duplicate: bool
    delivery_count: int
    lanes: tuple[Lane, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventQuery:
    """Which events to list; `tenant_id` None means all tenants, `end` is exclusive."""

    tenant_id: TenantId | None
    filter: EventFilter = EventFilter()
    start: datetime | None = None
    end: datetime | None = None


Told = Callable[[Sequence[Accepted | None]], None]
"""Hears what became of the events of a call, whether or not its caller still waits."""


class EventStore(Protocol):
    """Keeps events and what they owe."""

    async def accept(
        self, events: Sequence[Event], *, now: datetime, told: Told | None = None
    ) -> Sequence[Accepted]:
        """Store events with one delivery for each subscription that matches at this moment.

        All or none, durable when it returns; one result per event, in their order. An event
        whose ID is stored with the same digest is a duplicate: nothing is done for it (the
        same holds for a second one in `events`). Concurrent calls share a transaction but not
        their fate. Repeating a call is safe. Of a caller that is cancelled, the events may be
        stored nevertheless: then, too, `told` is called. Raises EventIdConflict.
        """
        ...

    async def accept_each(
        self, events: Sequence[Event], *, now: datetime, told: Told | None = None
    ) -> Sequence[Accepted | None]:
        """Store events as `accept` does, but each on its own, still in one transaction.

        None in place of an event whose ID is stored with another digest: nothing is done for
        it. Calls that were begun one after the other are accepted in that order.
        """
        ...

    async def preview(self, events: Sequence[Event]) -> Sequence[Accepted]:
        """Tell what `accept` would answer, without storing anything. `lanes` stays empty."""
        ...

    async def get_event(self, tenant_id: TenantId, event_id: EventId) -> Event:
        """Return a stored event. Raises NotFound."""
        ...

    async def list_events(self, query: EventQuery, page: PageRequest) -> Page[Event]:
        """Return events, the newest first."""
        ...


class EventTypeStore(Protocol):
    """Keeps registered event types, which belong to no tenant."""

    async def create_event_type(self, event_type: EventType) -> EventType:
        """Store a new event type. Raises AlreadyExists."""
        ...

    async def get_event_type(self, name: str) -> EventType:
        """Return an event type. Raises NotFound."""
        ...

    async def list_event_types(self, page: PageRequest) -> Page[EventType]:
        """Return event types by name."""
        ...

    async def replace_event_type(self, event_type: EventType, *, now: datetime) -> EventType:
        """Store a changed event type if its `etag` is still current, and raise its version.

        Returns it with its new version and `update_time`. Raises NotFound, EtagMismatch.
        """
        ...

    async def delete_event_type(self, name: str, *, etag: str | None) -> None:
        """Delete an event type; events stored under it stay. Raises NotFound, EtagMismatch."""
        ...


# For `subscriptions`.


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriptionQuery:
    """Which subscriptions to list. `event_type` keeps those whose filter chooses that type."""

    tenant_id: TenantId | None
    states: frozenset[State] = frozenset()
    event_type: str | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A stored subscription that cannot be read; `problem` names it, and no value of it."""

    tenant_id: TenantId
    subscription_id: SubscriptionId
    problem: str


class SubscriptionStore(Protocol):
    """Keeps subscriptions; secrets and header values are sealed at rest."""

    async def create(self, subscription: Subscription) -> Subscription:
        """Store a new subscription and return it with its lane. Raises AlreadyExists.

        Events accepted after it returns reach it.
        """
        ...

    async def get(self, tenant_id: TenantId, subscription_id: SubscriptionId) -> Subscription:
        """Return a subscription. Raises NotFound, SecretUnreadable, SubscriptionUnreadable."""
        ...

    async def list_subscriptions(
        self, query: SubscriptionQuery, page: PageRequest
    ) -> Page[Subscription | Unreadable]:
        """Return subscriptions by tenant and ID, each of them or why it cannot be read."""
        ...

    async def replace(self, subscription: Subscription, *, now: datetime) -> Subscription:
        """Store a changed subscription if its `etag` is still current, and raise its version.

        Returns it with its new version and `update_time`. Raises NotFound, EtagMismatch.
        """
        ...

    async def delete(
        self,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        *,
        etag: str | None,
        now: datetime,
    ) -> LaneId:
        """Delete a subscription; its secrets and header values are erased at once.

        From now on nothing is queued for it and nothing of it can be claimed; what waits is
        ended by `cancel_waiting`. A delivery under way still ends: a success counts, anything
        else cancels it. Raises NotFound, EtagMismatch.
        """
        ...

    async def arrange(
        self, lane_id: LaneId, *, after: str, limit: int, now: datetime
    ) -> str | None:
        """Arrange up to `limit` of the deliveries that wait in a lane as it is ordered now.

        `after` is empty at first. Returns where to go on, None once all are arranged.
        `replace` begins with it when it changes `ordered`. Until it is done nothing is handed
        out of a lane that became ordered; one that no longer is goes on meanwhile.
        """
        ...

    async def cancel_waiting(self, lane_id: LaneId, *, limit: int, now: datetime) -> int:
        """End up to `limit` waiting deliveries of a lane as CANCELED; return how many."""
        ...


class SecretUnreadable(Exception):
    """A stored secret cannot be opened with the master key; the message names no secret."""


class SubscriptionUnreadable(Exception):
    """What is stored of a subscription is damaged; the message names no value of it."""


# For readers of deliveries.


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryQuery:
    """Which deliveries to list; `tenant_id` None means all tenants, `end` is exclusive."""

    tenant_id: TenantId | None
    subscription_id: SubscriptionId | None = None
    event_id: EventId | None = None
    states: frozenset[DeliveryState] = frozenset()
    filter: EventFilter = EventFilter()
    start: datetime | None = None
    end: datetime | None = None


class DeliveryReader(Protocol):
    """Shows deliveries."""

    async def get_delivery(self, key: DeliveryKey) -> Delivery:
        """Return a delivery with its last 100 attempts. Raises NotFound."""
        ...

    async def list_deliveries(self, query: DeliveryQuery, page: PageRequest) -> Page[Delivery]:
        """Return deliveries, the newest first, each with its last attempt only."""
        ...


class StoreHealth(Protocol):
    """Tells whether the store works."""

    async def check_writable(self) -> None:
        """Return once a write transaction was made. Raises StorageUnavailable, StorageFull."""
        ...
