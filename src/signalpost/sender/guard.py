"""The one place that decides whether a connection may be made."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Sequence

from signalpost.domain.address import EgressPolicy, IpAddress, unmapped, within
from signalpost.domain.outcome import Outcome
from signalpost.domain.subscription import IpNetwork
from signalpost.sender.failure import SendFailed
from signalpost.sender.interfaces import Interfaces

logger = logging.getLogger("signalpost.sender")

Listener = tuple[IpAddress, int]


class Forbidden(SendFailed):
    """A connection is not allowed. It says nothing else: the customer must not learn why."""

    def __init__(self) -> None:
        super().__init__(Outcome.FORBIDDEN, "", "")


class Guard:
    """Judges the addresses a connection could be made to.

    `own_listeners` tells where this service listens at the moment: it never connects to
    itself, whatever the operator allows.
    """

    def __init__(
        self, policy: EgressPolicy, own_listeners: Callable[[], Collection[Listener]]
    ) -> None:
        self._policy = policy
        self._own_listeners = own_listeners
        self._interfaces = Interfaces()

    def judge(
        self,
        host: str,
        addresses: Sequence[IpAddress],
        *,
        port: int,
        ranges: Collection[IpNetwork] = (),
    ) -> list[IpAddress]:
        """Return the addresses to dial for a host, in their order.

        `ranges` are those its subscription is limited to. Raises Forbidden if a single one
        must not be dialled; operators find the reason in the log.
        """
        candidates = [unmapped(address) for address in addresses]
        for address in candidates:
            reason = self._refusal(address, port=port, ranges=ranges)
            if reason:
                _log_refusal(host, address, port=port, reason=reason)
                raise Forbidden
        return candidates

    def _refusal(
        self, address: IpAddress, *, port: int, ranges: Collection[IpNetwork]
    ) -> str | None:
        local = address in self._interfaces.addresses()
        own_ports = {own_port for _, own_port in self._own_listeners()}
        if not self._policy.permits_port(port):
            return "the port is not allowed"
        if port in own_ports and (local or address.is_loopback or address.is_unspecified):
            return "it is a listener of this service"
        if not self._policy.permits(address):
            return "the address is not public and not allowed"
        if local and not address.is_loopback and not self._policy.opens(address):
            return "it is an address of this machine and not allowed"
        if not within(address, ranges):
            return "it is outside of the subscription's allowed_ip_ranges"
        return None


def _log_refusal(host: str, address: IpAddress, *, port: int, reason: str) -> None:
    logger.warning(
        "refused to connect to %s: %s",
        host,
        reason,
        extra={"host": host, "address": str(address), "port": port, "reason": reason},
    )
