"""Which subscriptions an event reaches."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, bindparam, select

from signalpost.domain.event import Event
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.subscription import State
from signalpost.domain.suspension import EVENT_TYPE
from signalpost.store.documents import read_filter
from signalpost.store.lanes import LANE_COLUMNS, lane
from signalpost.store.order import is_ordered
from signalpost.store.statements import AnyRow, Driven
from signalpost.store.tables import subscriptions

_logger: Final = logging.getLogger(__name__)

_MOST_TENANTS = 10_000

_OF_TENANT = Driven(
    select(
        *LANE_COLUMNS,
        subscriptions.c.subscription_id,
        subscriptions.c.state,
        subscriptions.c.filter,
        subscriptions.c.ordering,
    ).where(
        subscriptions.c.tenant_id == bindparam("tenant_id"),
        subscriptions.c.delete_time.is_(None),
    ),
    "tenant_id",
)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A subscription as far as accepting events needs it."""

    lane: Lane
    subscription_id: SubscriptionId
    filter: EventFilter
    active: bool
    ordered: bool


class Matching:
    """Keeps the recipients of a tenant in memory.

    Exact within a transaction of the writer, for only that changes subscriptions: whoever
    changes one there says so by `forget`, and whoever rolls back by `forget_all`.
    """

    def __init__(self) -> None:
        self._of_tenant: dict[TenantId, tuple[Recipient, ...]] = {}

    def recipients(self, conn: Connection, event: Event) -> list[Recipient]:
        """Return those whose filter chooses the event, paused and suspended ones included.

        That a subscription is suspended is not told to itself.
        """
        itself = event.resource.id if event.event_type == EVENT_TYPE else None
        return [
            recipient
            for recipient in self._all(conn, event.tenant_id)
            if recipient.filter.matches(event.event_type, event.resource)
            and recipient.subscription_id != itself
        ]

    def forget(self, tenant_id: TenantId) -> None:
        """Read the subscriptions of a tenant anew when they are asked for again."""
        self._of_tenant.pop(tenant_id, None)

    def forget_all(self) -> None:
        """Read everything anew."""
        self._of_tenant.clear()

    def _all(self, conn: Connection, tenant_id: TenantId) -> Sequence[Recipient]:
        found = self._of_tenant.get(tenant_id)
        if found is None:
            if len(self._of_tenant) >= _MOST_TENANTS:
                self._of_tenant.clear()
            found = self._of_tenant[tenant_id] = _load(conn, tenant_id)
        return found


def _read_filter(row: AnyRow) -> EventFilter:
    try:
        return read_filter(row.filter)
    except (ValueError, TypeError, AttributeError):
        # What it may have chosen must not get lost, nor must others wait for its repair. Nothing
        # is sent meanwhile: as the subscription cannot be read, its deliveries fail.
        _logger.exception(
            "the filter of a subscription is damaged: all that is published to it fails",
            extra={"tenant_id": row.tenant_id, "subscription_id": row.subscription_id},
        )
        return EventFilter()


def _load(conn: Connection, tenant_id: TenantId) -> tuple[Recipient, ...]:
    return tuple(
        Recipient(
            lane=lane(row),
            subscription_id=SubscriptionId(row.subscription_id),
            filter=_read_filter(row),
            active=row.state == State.ACTIVE,
            ordered=is_ordered(row.ordering),
        )
        for row in _OF_TENANT.fetch(conn, (tenant_id,))
    )
