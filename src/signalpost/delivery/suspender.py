"""Suspends the subscriptions of endpoints that are gone, forbidden, or fail for too long."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from signalpost.delivery.lanes import LaneHome
from signalpost.delivery.patience import patiently
from signalpost.domain.event import Event
from signalpost.domain.ids import EventId, SubscriptionId, TenantId
from signalpost.domain.suspension import Suspension, announcement
from signalpost.ports import AttemptRecord, Clock, Recorded
from signalpost.ports.suspension import Suspended, SuspensionStore

_logger: Final = logging.getLogger(__name__)


class Suspender:
    """Records the attempt that was one too many."""

    def __init__(
        self,
        store: SuspensionStore,
        *,
        lanes: LaneHome,
        clock: Clock,
        new_id: Callable[[], str],
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._clock = clock
        self._new_id = new_id

    async def record(self, record: AttemptRecord, suspension: Suspension) -> Recorded | None:
        """Store an attempt and suspend its subscription; None if its lease was lost."""
        lease = record.lease
        announce = partial(self._announce, suspension, lease.tenant_id)
        suspended = await patiently(
            lambda: self._store.suspend(
                record, suspension, announce=announce, now=self._clock.now()
            )
        )
        if suspended.subscription_id is not None:
            self._lanes.forget(lease.lane_id)
            self._lanes.notice(suspended.lanes, due=self._clock.now())
            _log(record, suspension, suspended)
        return suspended.recorded

    def _announce(
        self,
        suspension: Suspension,
        tenant_id: TenantId,
        subscription_id: SubscriptionId,
        pending_count: int,
    ) -> Event:
        return announcement(
            suspension,
            tenant_id=tenant_id,
            subscription_id=subscription_id,
            pending_count=pending_count,
            event_id=EventId(self._new_id()),
            now=self._clock.now(),
        )


def _log(record: AttemptRecord, suspension: Suspension, suspended: Suspended) -> None:
    _logger.warning(
        "subscription suspended",
        extra={
            "tenant_id": record.lease.tenant_id,
            "subscription_id": suspended.subscription_id,
            "reason": suspension.reason.name,
        },
    )
