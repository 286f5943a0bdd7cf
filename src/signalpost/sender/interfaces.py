"""The IP addresses of this machine."""

from __future__ import annotations

import time
from ipaddress import ip_address

import ifaddr

from signalpost.domain.address import IpAddress

_FRESH_SECONDS = 1.0


class Interfaces:
    """Knows the addresses of the machine's interfaces, as they were a second ago at most."""

    def __init__(self) -> None:
        self._addresses: frozenset[IpAddress] = frozenset()
        self._read_at = float("-inf")

    def addresses(self) -> frozenset[IpAddress]:
        """Return the addresses of all interfaces, loopback included."""
        now = time.monotonic()
        if now - self._read_at >= _FRESH_SECONDS:
            self._addresses = frozenset(
                ip_address(found.ip if isinstance(found.ip, str) else found.ip[0])
                for adapter in ifaddr.get_adapters()
                for found in adapter.ips
            )
            self._read_at = now
        return self._addresses
