"""HTTP requests, between those who want them made and the sender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import AttemptResult
from signalpost.domain.subscription import IpNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookRequest:
    """One request to make. Connections are kept per `lane_id` and never shared between lanes.

    `headers` are complete but for `host` and `content-length`. `timeout` bounds the way from
    the name lookup to the status line. The address must lie in `allowed_ip_ranges`, if any.
    """

    lane_id: LaneId
    endpoint_uri: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    timeout: timedelta
    allowed_ip_ranges: tuple[IpNetwork, ...] = ()


class Sender(Protocol):
    """Makes HTTP requests."""

    async def send(self, request: WebhookRequest) -> AttemptResult:
        """Make one request, and only one, and tell how it ended.

        Whatever the network or the receiver does is a result, never an exception.
        """
        ...
