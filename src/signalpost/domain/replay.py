"""Replays: delivering stored events to a subscription again."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from signalpost.domain.delivery import DeliveryState
from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import ReplayKey, SubscriptionId, TenantId


class ReplayScope(IntEnum):
    """Which events to deliver again. Numbers as in `ReplayDeliveriesRequest.Scope`."""

    FAILED = 1
    MISSING = 2
    ALL = 3

    def chooses(self, state: DeliveryState | None) -> bool:
        """Tell whether a delivery in this state is to be made again; None: there is none."""
        match self:
            case ReplayScope.FAILED:
                return state in (DeliveryState.FAILED, DeliveryState.CANCELED)
            case ReplayScope.MISSING:
                return state is None
            case ReplayScope.ALL:
                return state is not DeliveryState.PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayOrder:
    """What to deliver again: of the events that a subscription asks for, those of a range.

    The range is one of publish times from `start` to before `end`; without an `end`, to the
    moment in which the replay begins.
    """

    tenant_id: TenantId
    subscription_id: SubscriptionId
    scope: ReplayScope
    filter: EventFilter = EventFilter()
    start: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """How far a replay got: `delivery_count` deliveries are queued, up to `position`."""

    key: ReplayKey
    order: ReplayOrder
    position: int
    delivery_count: int
    ended: bool
