"""What the demonstration knows of its deliveries: the receiver's view beside the server's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from signalpost.cli.verification import Result, Verification
from signalpost.v1.delivery_pb2 import Delivery, DeliveryAttempt

_ENDED = (Delivery.SUCCEEDED, Delivery.FAILED, Delivery.CANCELED)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request that reached the receiver, and what it was answered."""

    verification: Verification
    status: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event on its way. `delivery` is what the server said last, None before it did."""

    event_type: str
    event_id: str
    delivery: Delivery | None
    arrivals: tuple[Arrival, ...]

    @property
    def attempts(self) -> int:
        """How many attempts the server has on record."""
        return self.delivery.attempt_count if self.delivery else 0

    @property
    def ended(self) -> bool:
        """Tell whether no attempt will follow."""
        return self.delivery is not None and self.delivery.state in _ENDED

    @property
    def good(self) -> bool:
        """Tell whether it was delivered, and every request of it was verified."""
        return (
            self.delivery is not None
            and self.delivery.state == Delivery.SUCCEEDED
            and self.verification is Result.VERIFIED
        )

    @property
    def verification(self) -> Result | None:
        """What the receiver found, the worst over all requests; None if nothing arrived."""
        results = [arrival.verification.result for arrival in self.arrivals]
        for result in (Result.NOT_VERIFIED, Result.UNVERIFIED, Result.VERIFIED):
            if result in results:
                return result
        return None

    @property
    def latency(self) -> str:
        """How long the last attempt took."""
        if not self.attempts or self.delivery is None:
            return ""
        return f"{self.delivery.last_attempt.latency.ToMicroseconds() / 1000:.1f} ms"

    @property
    def status(self) -> str:
        """How far it got, in words."""
        if self.delivery is None:
            return "published"
        match self.delivery.state:
            case Delivery.SUCCEEDED:
                return "delivered"
            case Delivery.FAILED:
                reason = Delivery.FailureReason.Name(self.delivery.failure_reason)
                return f"failed: {reason}"
            case Delivery.CANCELED:
                return "canceled"
            case _ if self.attempts:
                return f"{describe(self.delivery.last_attempt)}, will be retried"
            case _:
                return "under way"


def describe(attempt: DeliveryAttempt) -> str:
    """Name the outcome of an attempt, with the HTTP status or else the error code."""
    outcome = DeliveryAttempt.Outcome.Name(attempt.outcome)
    detail = str(attempt.status_code or attempt.error_code)
    return f"{outcome} {detail}".rstrip()


class Board:
    """Brings together what the publisher, the receiver and the server say of each event."""

    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self._arrivals: dict[str, list[Arrival]] = {}
        self._deliveries: dict[str, Delivery] = {}

    def publish(self, event_id: str, event_type: str) -> None:
        """Note an event that the server accepted."""
        self._types[event_id] = event_type

    def arrive(self, event_id: str, arrival: Arrival) -> None:
        """Note a request. It may come before the publisher learns the event's ID."""
        self._arrivals.setdefault(event_id, []).append(arrival)

    def observe(self, deliveries: Iterable[Delivery]) -> None:
        """Note what the server says of deliveries."""
        for delivery in deliveries:
            self._deliveries[delivery.event_id] = delivery

    def rows(self) -> list[Row]:
        """Return the published events in their order."""
        return [
            Row(
                event_type=event_type,
                event_id=event_id,
                delivery=self._deliveries.get(event_id),
                arrivals=tuple(self._arrivals.get(event_id, ())),
            )
            for event_id, event_type in self._types.items()
        ]
