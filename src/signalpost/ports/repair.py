"""What the repair of deliveries asks of the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signalpost.domain.filter import EventFilter
from signalpost.domain.ids import DeliveryKey, ReplayKey, SubscriptionId, TenantId
from signalpost.domain.lane import Lane
from signalpost.domain.replay import Replay, ReplayOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingQuery:
    """Which pending deliveries of a subscription to find: those queued before `end`."""

    tenant_id: TenantId
    subscription_id: SubscriptionId
    filter: EventFilter
    end: datetime


@dataclass(frozen=True, slots=True)
class PendingPage:
    """Pending deliveries; `next_after` is the position to go on from, None at the end.

    A page may be empty and yet not be the last. `lane` is that of them all, if it is active.
    """

    waiting: Sequence[DeliveryKey]
    under_way: Sequence[DeliveryKey]
    next_after: str | None
    lane: Lane | None


@dataclass(frozen=True, slots=True)
class Canceled:
    """How many deliveries were canceled, and how many will be unless their attempt succeeds."""

    waiting: int
    under_way: int


class RepairStore(Protocol):
    """Lets deliveries go again, and ends them."""

    async def retry(self, key: DeliveryKey, *, now: datetime) -> Lane | None:
        """Make a delivery due now; return its lane if that is active.

        One that had ended is pending again, with a new set of attempts; its lease tokens go
        on rising, so that no late result of a former lease counts. One that waits becomes due.
        One under way stays as it is, and is no longer to be canceled. Raises NotFound, and
        StateInvalid if its subscription is deleted or its event no longer stored.
        """
        ...

    async def find_pending(self, query: PendingQuery, *, after: str | None) -> PendingPage:
        """Return a page of what may be canceled.

        Those under way stand on the first page, unless they are to be canceled already. What is
        attempted between two pages may be missed. Raises NotFound.
        """
        ...

    async def cancel(self, keys: Sequence[DeliveryKey], *, now: datetime) -> Canceled:
        """End deliveries as CANCELED.

        One under way ends so later, unless its attempt succeeds. One that is no longer pending
        stays as it is. In an ordered lane those that stood behind them may be due now.
        """
        ...

    async def stop_replay(
        self, tenant_id: TenantId, subscription_id: SubscriptionId, *, now: datetime
    ) -> None:
        """End the replay of a subscription that is running, if any. Raises NotFound."""
        ...


@dataclass(frozen=True, slots=True)
class ReplayItem:
    """An event to deliver again, by its row, and its delivery if there is one."""

    event_row: int
    key: DeliveryKey | None


@dataclass(frozen=True, slots=True)
class ReplayPage:
    """What to deliver again; `next_position` is the one to go on from, None at the end.

    A page may be empty and yet not be the last.
    """

    items: Sequence[ReplayItem]
    next_position: int | None


@dataclass(frozen=True, slots=True)
class Replayed:
    """A replay after a step of it, and its lane if that is active and has more to do."""

    replay: Replay
    lane: Lane | None


class ReplayStore(Protocol):
    """Keeps replays, so that a crash in the middle of one costs no more than the last page."""

    async def begin_replay(
        self, order: ReplayOrder, *, request_id: str | None, now: datetime
    ) -> Replay:
        """Store a replay that is still to be worked off.

        The one of the same request, if it did not end more than a day ago, is returned
        instead. Raises NotFound; RequestIdConflict if that request was another one;
        StateInvalid while another replay of the subscription runs.
        """
        ...

    async def get_replay(self, key: ReplayKey) -> Replay:
        """Return a replay. Raises NotFound."""
        ...

    async def running_replays(self) -> Sequence[Replay]:
        """Return the replays that are not worked off."""
        ...

    async def find_replayable(
        self, order: ReplayOrder, *, after: int | None, limit: int, now: datetime
    ) -> ReplayPage:
        """Return up to `limit` of what a replay is to deliver again. Raises NotFound."""
        ...

    async def queue_page(self, replay: Replay, page: ReplayPage, *, now: datetime) -> Replayed:
        """Queue a page found from the position of a replay on, and move it, in one transaction.

        What is pending by now stays as it is. If the replay has another position, is ended, or
        its subscription deleted, nothing is queued: it is returned as it stands.
        """
        ...

    async def end_replay(self, key: ReplayKey, *, now: datetime) -> None:
        """End a replay where it is."""
        ...
