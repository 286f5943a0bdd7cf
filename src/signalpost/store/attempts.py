"""Translates attempts to rows and back."""

from __future__ import annotations

from signalpost.domain.delivery import Attempt, Trigger
from signalpost.domain.outcome import AttemptResult, Outcome, Timings
from signalpost.store.statements import AnyRow, DrivenInsert, Values
from signalpost.store.tables import attempts
from signalpost.store.units import (
    from_duration,
    from_optional_duration,
    from_time,
    to_duration,
    to_optional_duration,
    to_time,
)

INSERT_ATTEMPT = DrivenInsert(attempts)


def write(delivery_id: int, attempt: Attempt) -> Values:
    """Return the columns of an attempt, in the order of the table."""
    result, timings = attempt.result, attempt.result.timings
    return (
        delivery_id,
        attempt.number,
        int(attempt.trigger),
        from_time(attempt.start_time),
        int(result.outcome),
        from_duration(result.latency),
        from_optional_duration(timings.dns),
        from_optional_duration(timings.connect),
        from_optional_duration(timings.tls),
        from_optional_duration(timings.write),
        from_optional_duration(timings.wait),
        result.status_code,
        int(result.response_truncated),
        _storable(result.retry_after),
        _storable(result.error_code),
        _storable(result.error_message),
        _storable(result.remote_address),
        result.response_body,
    )


def read(row: AnyRow) -> Attempt:
    """Return the attempt of a row."""
    return Attempt(
        number=row.number,
        trigger=Trigger(row.cause),
        start_time=to_time(row.start_time),
        result=AttemptResult(
            outcome=Outcome(row.outcome),
            latency=to_duration(row.latency),
            timings=_read_timings(row),
            status_code=row.status_code,
            response_body=row.response_body,
            response_truncated=bool(row.response_truncated),
            retry_after=row.retry_after,
            error_code=row.error_code,
            error_message=row.error_message,
            remote_address=row.remote_address,
        ),
    )


def _read_timings(row: AnyRow) -> Timings:
    return Timings(
        dns=to_optional_duration(row.dns),
        connect=to_optional_duration(row.connect),
        tls=to_optional_duration(row.tls),
        write=to_optional_duration(row.write),
        wait=to_optional_duration(row.wait),
    )


def _storable(text: str) -> str:
    if text.isascii() and "\0" not in text:
        return text
    # The network has its say in these texts, and a result that cannot be stored would come
    # back for ever.
    return text.encode(errors="replace").decode().replace("\0", "\ufffd")
