"""Lanes that may go, in turn, but for those of tenants that hold as many slots as they may.

An attempt at an endpoint that never answers holds its slot for as long as attempts may take,
and nothing tells beforehand which those are. A tenant with more such endpoints than there are
slots would hold all of them, and turns are of no use to the others then. So a tenant may take
a slot only while it holds fewer than are free (`tenant_room`): something is left for whoever
comes next.
"""

from __future__ import annotations

from signalpost.delivery.ring import Ring
from signalpost.domain.ids import LaneId, TenantId
from signalpost.domain.lane import tenant_room


class FairRing(Ring):
    """The ring of all lanes. It counts the slots that each tenant holds.

    Tenants that may take none stand aside, by how many they hold: until they hold fewer, or
    more are free. Its length is without their lanes. Nothing here looks through all tenants,
    or all that stand aside: different numbers of held slots are always few.
    """

    def __init__(self) -> None:
        super().__init__()
        self._held: dict[TenantId, int] = {}
        self._aside: dict[int, dict[TenantId, None]] = {}

    def add(self, tenant: TenantId, lane_id: LaneId) -> None:
        """Let a lane have the last turn of its tenant."""
        super().add(tenant, lane_id)
        if self._aside and tenant in self._aside.get(self._held.get(tenant, 0), ()):
            self._count -= 1

    def hold(self, tenant: TenantId, count: int) -> None:
        """Take in that a tenant whose turn it was holds so many slots more."""
        self._held[tenant] = self._held.get(tenant, 0) + count

    def release(self, tenant: TenantId, count: int) -> None:
        """Take in that a tenant holds so many slots less."""
        held = self._held.pop(tenant)
        if self._aside and tenant in self._aside.get(held, ()):
            self._return(tenant, held)
        if held > count:
            self._held[tenant] = held - count

    def recall(self, *, free: int, most: int) -> None:
        """Let so many tenants that stand aside have turns again, if they may take a free slot.

        Those that hold the least are the first.
        """
        while most > 0 and self._aside:
            held = min(self._aside)
            if not tenant_room(held, free=free):
                return
            self._return(next(iter(self._aside[held])), held)
            most -= 1

    def room(self, *, free: int) -> int:
        """Return how many free slots the tenant may take whose turn it is; 0 if nobody may."""
        while True:
            if not self._tenants:
                self.recall(free=free, most=1)
            if not self._tenants:
                return 0
            tenant = self._tenants[0]
            held = self._held.get(tenant, 0)
            if room := tenant_room(held, free=free):
                return room
            self._tenants.popleft()
            self._aside.setdefault(held, {})[tenant] = None
            self._count -= len(self._lanes[tenant])

    def _return(self, tenant: TenantId, held: int) -> None:
        aside = self._aside[held]
        del aside[tenant]
        if not aside:
            del self._aside[held]
        self._tenants.append(tenant)
        self._count += len(self._lanes[tenant])
