"""Which endpoints a subscription may name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from signalpost.domain.address import EgressPolicy, within
from signalpost.domain.endpoint import Endpoint, EndpointInvalid, parse_endpoint
from signalpost.domain.errors import Reason, Violation
from signalpost.domain.headers import header_violations
from signalpost.domain.subscription import IpNetwork

_URI = "subscription.endpoint_uri"
_HEADERS = "subscription.headers"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRules:
    """What the operator allows. `dev` lets through loopback, also by plain http."""

    policy: EgressPolicy
    dev: bool

    def parse(self, uri: str) -> Endpoint:
        """Read an endpoint. Raises EndpointInvalid."""
        return parse_endpoint(uri, dev=self.dev)

    def violations(
        self, uri: str, *, headers: Mapping[str, str], allowed_ip_ranges: Sequence[IpNetwork] = ()
    ) -> list[Violation]:
        """Say what is wrong with an endpoint and the headers for it.

        A literal address is judged here and now, a name by its addresses whenever it is dialled.
        """
        found = [
            Violation(f'{_HEADERS}["{name}"]' if name else _HEADERS, Reason.FIELD_INVALID, wrong)
            for name, wrong in header_violations(headers)
        ]
        if (forbidden := self._forbidden(uri, allowed_ip_ranges)) is not None:
            found.insert(0, Violation(_URI, Reason.ENDPOINT_FORBIDDEN, forbidden))
        return found

    def _forbidden(self, uri: str, allowed_ip_ranges: Sequence[IpNetwork]) -> str | None:
        try:
            address = self.parse(uri).address
        except EndpointInvalid as error:
            return str(error)
        if address is None:
            return None
        if not self.policy.permits(address):
            return "is an address that this service does not connect to"
        if not within(address, allowed_ip_ranges):
            return "is an address outside of allowed_ip_ranges"
        return None
