"""What attempts need to know of subscriptions, kept as long as it is current."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence

from signalpost.delivery.patience import patiently
from signalpost.domain.delivery import Lease
from signalpost.domain.ids import LaneId
from signalpost.domain.subscription import Subscription
from signalpost.ports import DeliveryQueue

_MOST_KEPT = 10_000

_Loaded = Mapping[LaneId, Subscription | Exception]


class Targets:
    """Keeps the subscriptions used last; a lease says which version is current.

    Most customers get few events, so most attempts need one that is not kept. Those that begin
    together, as they do after a claim, have theirs loaded together.
    """

    def __init__(self, queue: DeliveryQueue) -> None:
        self._queue = queue
        self._kept: OrderedDict[LaneId, Subscription] = OrderedDict()
        self._wanted: dict[LaneId, None] = {}
        self._load: asyncio.Task[_Loaded] | None = None

    def kept(self, lease: Lease) -> Subscription | None:
        """Return the subscription of a lease at once, None if that is to be loaded first."""
        kept = self._kept.get(lease.lane_id)
        if kept is None or kept.version < lease.subscription_version:
            return None
        self._kept.move_to_end(lease.lane_id)
        return kept

    async def of(self, lease: Lease) -> Subscription:
        """Return the subscription of a lease. Raises what `subscriptions_of` has in its place."""
        if (kept := self.kept(lease)) is not None:
            return kept
        self._wanted[lease.lane_id] = None
        if self._load is None:
            self._load = asyncio.create_task(self._load_wanted())
        # Others wait for it, too: it goes on if this one is cancelled.
        found = (await asyncio.shield(self._load))[lease.lane_id]
        if isinstance(found, Exception):
            raise found
        return found

    async def _load_wanted(self) -> _Loaded:
        # Who asks from now on may know of a later version than this finds.
        wanted, self._wanted, self._load = list(self._wanted), {}, None
        loaded = await self._loaded(wanted)
        for lane_id, found in loaded.items():
            self._kept.pop(lane_id, None)
            if not isinstance(found, Exception):
                self._kept[lane_id] = found
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return loaded

    async def _loaded(self, wanted: Sequence[LaneId]) -> _Loaded:
        try:
            return await patiently(lambda: self._queue.subscriptions_of(wanted))
        except Exception as error:  # noqa: BLE001 - whoever asked hears of it
            if len(wanted) == 1:
                return {wanted[0]: error}
        # One of them may lie where the database cannot be read: that is no fault of the others.
        loaded: dict[LaneId, Subscription | Exception] = {}
        for lane_id in wanted:
            loaded |= await self._loaded([lane_id])
        return loaded
