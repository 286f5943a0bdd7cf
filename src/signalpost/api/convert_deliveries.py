"""Deliveries as the contract shows them."""

from __future__ import annotations

from typing import cast

from signalpost.api.convert_times import duration, timestamp
from signalpost.api.rendering import readable
from signalpost.domain.delivery import Attempt, Delivery
from signalpost.domain.ids import delivery_id
from signalpost.domain.outcome import Outcome, Timings
from signalpost.v1.delivery_pb2 import Delivery as DeliveryMessage
from signalpost.v1.delivery_pb2 import DeliveryAttempt
from signalpost.v1.event_pb2 import Resource


def delivery_message(delivery: Delivery, *, with_attempts: bool) -> DeliveryMessage:
    """Show a delivery, with all its attempts or only with the last one."""
    attempts = [attempt_message(attempt) for attempt in delivery.attempts]
    return DeliveryMessage(
        delivery_id=delivery_id(delivery.key),
        event_id=readable(delivery.event_id),
        subscription_id=readable(delivery.subscription_id),
        tenant_id=readable(delivery.tenant_id),
        event_type_name=readable(delivery.event_type),
        resource=Resource(type=readable(delivery.resource.type), id=readable(delivery.resource.id)),
        state=cast("DeliveryMessage.State.ValueType", delivery.state),
        failure_reason=cast("DeliveryMessage.FailureReason.ValueType", delivery.failure_reason),
        attempt_count=delivery.attempt_count,
        create_time=timestamp(delivery.create_time),
        next_attempt_time=timestamp(delivery.next_attempt_time),
        end_time=timestamp(delivery.end_time),
        last_attempt=attempts[-1] if attempts else None,
        attempts=attempts if with_attempts else (),
        traceparent=readable(delivery.traceparent),
    )


def attempt_message(attempt: Attempt) -> DeliveryAttempt:
    """Show an attempt. Of a forbidden address nothing is told: it would map a foreign network."""
    result = attempt.result
    told = result.outcome is not Outcome.FORBIDDEN
    return DeliveryAttempt(
        number=attempt.number,
        trigger=cast("DeliveryAttempt.Trigger.ValueType", attempt.trigger),
        outcome=cast("DeliveryAttempt.Outcome.ValueType", result.outcome),
        start_time=timestamp(attempt.start_time),
        latency=duration(result.latency),
        timings=_timings(result.timings),
        status_code=result.status_code,
        response_body=result.response_body.decode(errors="replace"),
        response_truncated=result.response_truncated,
        error_code=result.error_code if told else "",
        error_message=result.error_message if told else "",
        remote_address=result.remote_address if told else "",
    )


def _timings(timings: Timings) -> DeliveryAttempt.Timings:
    return DeliveryAttempt.Timings(
        dns=duration(timings.dns),
        connect=duration(timings.connect),
        tls=duration(timings.tls),
        write=duration(timings.write),
        wait=duration(timings.wait),
    )
