"""What is pending, between those who deliver it and the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signalpost.domain.delivery import Attempt, Lease
from signalpost.domain.ids import LaneId, SubscriptionId
from signalpost.domain.lane import Lane
from signalpost.domain.pace import Pace
from signalpost.domain.subscription import Subscription
from signalpost.domain.verdict import Verdict
from signalpost.ports.lanes import Backlog, Paced, Pick


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRecord:
    """An attempt that ended, and what follows from it.

    `pace` is what was learned of the endpoint, if that is to be stored. `subscription_id` is for
    the log: None if the attempt did not come as far as to know it.
    """

    lease: Lease
    attempt: Attempt
    verdict: Verdict
    pace: Pace | None = None
    subscription_id: SubscriptionId | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a record led to.

    `next_due` is when the delivery is due again or, in an ordered lane, the one that is now the
    first of its resource; None if there is no such thing, or another attempt is under way.
    """

    next_due: datetime | None


class DeliveryQueue(Protocol):
    """Hands out deliveries under leases and takes back what became of them.

    Invariants: a delivery is pending exactly while it is in the queue; at most one unexpired
    lease is out for it; tokens only rise, by two at most for each attempt, and whoever takes a
    lease back counts an attempt. In an ordered lane at most one lease is out for each
    resource, and of those that wait only the first by order of acceptance can be claimed.
    """

    async def recover(self, *, now: datetime) -> int:
        """Take up all leases of a former process at once; return how many.

        Each gets an attempt INTERRUPTED on record, which its retry policy is not charged
        for, and is due as `domain.quarantine` has it: now, or soon, or never again. What
        waits by a clock that was set back since waits no longer than its own delay. Called
        before the first claim.
        """
        ...

    async def backlogs(self) -> Sequence[Backlog]:
        """Return every active lane in which something waits, each with its earliest due time."""
        ...

    async def paces(self) -> Sequence[Paced]:
        """Return the lasting part of what was learned of endpoints, and stored with records."""
        ...

    async def claim(
        self, picks: Sequence[Pick], *, now: datetime, lease_until: datetime
    ) -> Sequence[Lease]:
        """Lease the deliveries that are due for longest, at most `count` of each lane.

        Nothing of a lane whose subscription is paused, suspended or deleted. One whose event
        is gone ends as FAILED for INTERNAL instead.
        """
        ...

    async def next_due(self, lanes: Sequence[LaneId]) -> Mapping[LaneId, datetime]:
        """Return when the first waiting delivery of each active lane is due.

        Lanes without one are absent.
        """
        ...

    async def record(self, record: AttemptRecord, *, now: datetime) -> Recorded | None:
        """Store an attempt and what follows from it, in one transaction.

        None, and nothing but the pace of the lane is changed, if the lease was lost
        meanwhile. Concurrent calls share a transaction. Repeating after StorageUnavailable is safe.
        """
        ...

    async def rescue(self, *, now: datetime, limit: int) -> Sequence[Lane]:
        """Take up to `limit` expired leases back, as `recover` does; return their active lanes."""
        ...

    async def unarranged_lanes(self) -> Sequence[Lane]:
        """Return lanes of which `arrange` has not been called to the end."""
        ...

    async def deleted_lanes(self) -> Sequence[LaneId]:
        """Return lanes of deleted subscriptions in which something still waits."""
        ...

    async def subscriptions_of(
        self, lanes: Sequence[LaneId]
    ) -> Mapping[LaneId, Subscription | Exception]:
        """Return the subscription of each lane or, in its place, why it cannot be had.

        NotFound if it is deleted, SecretUnreadable, SubscriptionUnreadable.
        """
        ...
