"""Lanes that may go, in turn: tenants first, then the lanes of each."""

from __future__ import annotations

from collections import deque

from signalpost.domain.ids import LaneId, TenantId


class Ring:
    """Round robin over tenants, and over the lanes of a tenant. No lane is in it twice."""

    def __init__(self) -> None:
        self._tenants: deque[TenantId] = deque()
        self._lanes: dict[TenantId, deque[LaneId]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, tenant: TenantId, lane_id: LaneId) -> None:
        """Let a lane have the last turn of its tenant."""
        lanes = self._lanes.get(tenant)
        if lanes is None:
            lanes = self._lanes[tenant] = deque()
            self._tenants.append(tenant)
        lanes.append(lane_id)
        self._count += 1

    def take(self) -> LaneId:
        """Return the lane whose turn it is; its tenant then is the last."""
        tenant = self._tenants.popleft()
        lanes = self._lanes[tenant]
        lane_id = lanes.popleft()
        if lanes:
            self._tenants.append(tenant)
        else:
            del self._lanes[tenant]
        self._count -= 1
        return lane_id
