"""Identifiers.

Rows are keyed by numbers that rise in the order of acceptance; the outside sees text.
"""

from __future__ import annotations

import base64
from typing import NewType

EventId = NewType("EventId", str)
"""Identifies an event within its tenant; becomes its `webhook-id`."""

TenantId = NewType("TenantId", str)
"""Names a tenant. Empty is a tenant like any other, that of single-tenant use."""

SubscriptionId = NewType("SubscriptionId", str)
"""Identifies a subscription within its tenant."""

KeyId = NewType("KeyId", str)
"""Identifies a signing key."""

LaneId = NewType("LaneId", int)
"""Number of the lane (and the row) of one subscription. Never reused."""

DeliveryKey = NewType("DeliveryKey", int)
"""Number of a delivery over all tenants, below 2^63; rises in the order of acceptance."""

ReplayKey = NewType("ReplayKey", int)
"""Number of a replay over all tenants."""

_PREFIX = "dlv_"
_BASE32_LENGTH = 13


def delivery_id(key: DeliveryKey) -> str:
    """Write a delivery's number as the identifier that the outside sees."""
    digits = base64.b32hexencode(key.to_bytes(8, "big")).decode().rstrip("=").lower()
    return _PREFIX + digits


def delivery_key(text: str) -> DeliveryKey | None:
    """Read an identifier made by `delivery_id`; None if it never was one."""
    digits = text.removeprefix(_PREFIX)
    if len(text) != len(_PREFIX) + _BASE32_LENGTH or digits == text or digits != digits.lower():
        return None
    try:
        key = DeliveryKey(int.from_bytes(base64.b32hexdecode(digits.upper() + "===")))
    except ValueError:
        return None
    return key if key < 1 << 63 and delivery_id(key) == text else None
