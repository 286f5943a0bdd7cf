"""Pausing and resuming."""

from __future__ import annotations

import logging
from typing import Final

from signalpost.domain.ids import SubscriptionId, TenantId
from signalpost.domain.subscription import Subscription, paused, resumed
from signalpost.ports import LaneNotices
from signalpost.subscriptions.changing import Change, Changer

_logger: Final = logging.getLogger(__name__)


class Lifecycle:
    """Stops the deliveries of subscriptions, and lets them go on."""

    def __init__(self, changer: Changer, *, lanes: LaneNotices) -> None:
        self._changer = changer
        self._lanes = lanes

    async def pause(self, tenant_id: TenantId, subscription_id: SubscriptionId) -> Subscription:
        """Let no further attempt begin; one that is paused or suspended stays as it is.

        Raises NotFound.
        """
        change = await self._changer.change(
            tenant_id, subscription_id, lambda former, now: paused(former, now=now)
        )
        self._lanes.forget(change.current.lane_id)
        _log("subscription paused", change)
        return change.current

    async def resume(self, tenant_id: TenantId, subscription_id: SubscriptionId) -> Subscription:
        """Let what queued up go; an active one stays as it is. Raises NotFound."""
        change = await self._changer.change(
            tenant_id, subscription_id, lambda former, now: resumed(former, now=now)
        )
        lane, due = change.current.lane, change.current.update_time
        if change.current.state is not change.former.state:
            self._lanes.resume(lane, due=due)
        else:
            # The call that resumed it may have ended before it came to this.
            self._lanes.notice([lane], due=due)
        _log("subscription resumed", change)
        return change.current


def _log(message: str, change: Change) -> None:
    if change.current != change.former:
        fields = {
            "tenant_id": change.current.tenant_id,
            "subscription_id": change.current.subscription_id,
        }
        _logger.info(message, extra=fields)
