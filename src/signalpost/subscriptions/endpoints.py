"""Which endpoints a subscription may name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from signalpost.domain.address import EgressPolicy, within
from signalpost.domain.endpoint import Endpoint, EndpointInvalid, parse_endpoint
from signalpost.domain.errors import Reason, Violation
from signalpost.domain.headers import header_violations
from signalpost.domain.subscription import IpNetwork

_URI = "subscription.endpoint_uri"
_HEADERS = "subscription.headers"
_RANGES = "subscription.allowed_ip_ranges"


@dataclass(slots=True, kw_only=True)
class EndpointRules:
    """What the operator allows. `dev` lets through loopback, also by plain http.

    `policy` is replaced when the operator changes it.
    """

    policy: EgressPolicy
    dev: bool

    def parse(self, uri: str) -> Endpoint:
        """Read an endpoint. Raises EndpointInvalid."""
        return parse_endpoint(uri, dev=self.dev)

    def violations(
        self, uri: str, *, headers: Mapping[str, str], allowed_ip_ranges: Sequence[IpNetwork] = ()
    ) -> list[Violation]:
        """Say what is wrong with an endpoint, the headers for it and the ranges it must lie in.

        Its port is judged here and now, and whenever it is dialled; so is a literal address. A
        name is judged by its addresses whenever these are dialled. Of ranges one must have an
        address that the service may connect to: else nothing could ever be delivered.
        """
        found = [
            Violation(f'{_HEADERS}["{name}"]' if name else _HEADERS, Reason.FIELD_INVALID, wrong)
            for name, wrong in header_violations(headers)
        ]
        forbidden = [
            Violation(_URI, Reason.ENDPOINT_FORBIDDEN, wrong)
            for wrong in self._forbidden(uri, allowed_ip_ranges)
        ]
        if allowed_ip_ranges and not self.policy.reaches(allowed_ip_ranges):
            wrong = "has no address that this service connects to"
            forbidden.append(Violation(_RANGES, Reason.FIELD_INVALID, wrong))
        return forbidden + found

    def _forbidden(self, uri: str, allowed_ip_ranges: Sequence[IpNetwork]) -> Iterator[str]:
        try:
            endpoint = self.parse(uri)
        except EndpointInvalid as error:
            yield str(error)
            return
        if not self.policy.permits_port(endpoint.port):
            yield f"has a port that this service does not connect to: {endpoint.port}"
        if endpoint.address is None:
            return
        if not self.policy.permits(endpoint.address):
            yield "is an address that this service does not connect to"
        elif not within(endpoint.address, allowed_ip_ranges):
            yield "is an address outside of allowed_ip_ranges"
