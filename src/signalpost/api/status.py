"""Failures as `google.rpc.Status`: which code, and which details with it.

Everything travels in the trailers of the answer, which clients bound to 8 KiB by default:
of very many violations only the first ones are told, and the message says how many there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2
from google.rpc.error_details_pb2 import (
    BadRequest,
    ErrorInfo,
    PreconditionFailure,
    QuotaFailure,
    ResourceInfo,
    RetryInfo,
)
from google.rpc.status_pb2 import Status

from signalpost.domain.errors import (
    CursorExpired,
    EndpointUnverified,
    EventTypeBuiltin,
    QuotaExceeded,
    Reason,
    RequestInvalid,
    ResourceError,
    Retryable,
    SignalpostError,
    StateInvalid,
)
from signalpost.v1.errors_pb2 import ErrorReason
from signalpost.v1.event_service_pb2 import PublishError

DOMAIN = "signalpost"

MAX_VIOLATION_BYTES = 4096
MAX_TEXT_LENGTH = 300

_CODES: Final[Mapping[Reason, int]] = {
    Reason.NOT_FOUND: code_pb2.NOT_FOUND,
    Reason.ALREADY_EXISTS: code_pb2.ALREADY_EXISTS,
    Reason.EVENT_ID_CONFLICT: code_pb2.ALREADY_EXISTS,
    Reason.REQUEST_ID_CONFLICT: code_pb2.ALREADY_EXISTS,
    Reason.ETAG_MISMATCH: code_pb2.ABORTED,
    Reason.STATE_INVALID: code_pb2.FAILED_PRECONDITION,
    Reason.EVENT_TYPE_BUILTIN: code_pb2.FAILED_PRECONDITION,
    Reason.ENDPOINT_UNVERIFIED: code_pb2.FAILED_PRECONDITION,
    Reason.CURSOR_EXPIRED: code_pb2.OUT_OF_RANGE,
    Reason.QUOTA_EXCEEDED: code_pb2.RESOURCE_EXHAUSTED,
    Reason.OVERLOADED: code_pb2.UNAVAILABLE,
    Reason.STORAGE_UNAVAILABLE: code_pb2.UNAVAILABLE,
    Reason.STORAGE_FULL: code_pb2.RESOURCE_EXHAUSTED,
    Reason.CREDENTIALS_INVALID: code_pb2.UNAUTHENTICATED,
}
"""Codes by reason. Whatever `RequestInvalid` carries is INVALID_ARGUMENT."""


def status_of(error: SignalpostError) -> Status:
    """Tell a caller of a failure, with all the details it has."""
    details = [_info(error.reason, _metadata(error)), *_details(error)]
    return _status(_code(error), _cut(str(error)), details)


def too_late(limit_seconds: float) -> Status:
    """Tell a caller that the time the server gives to a call is over."""
    message = f"the call took longer than the {limit_seconds:g} s that the server gives it"
    return Status(code=code_pb2.DEADLINE_EXCEEDED, message=message)


def publish_error(error: SignalpostError, *, most_bytes: int) -> PublishError:
    """Tell of an event refused in a stream: what the status of a failed `Publish` tells.

    Its violations are as many as fit into `most_bytes`, and no more than in a status.
    """
    told = PublishError(
        code=_code(error),
        reason=ErrorReason.Value(error.reason.name),
        message=_cut(str(error)),
        metadata=_metadata(error),
    )
    if isinstance(error, RequestInvalid):
        limit = min(most_bytes, MAX_VIOLATION_BYTES)
        for named in _bad_request(error, most_bytes=limit).field_violations:
            reason = ErrorReason.Value(named.reason)
            told.violations.add(field=named.field, reason=reason, description=named.description)
    return told


def internal(error_id: str) -> Status:
    """Tell a caller that this service failed, and under which ID its log has the cause."""
    message = f"the service failed; its log has the cause under {error_id}"
    return _status(code_pb2.INTERNAL, message, [_info(Reason.INTERNAL, {"errorId": error_id})])


def _code(error: SignalpostError) -> int:
    invalid = isinstance(error, RequestInvalid)
    return code_pb2.INVALID_ARGUMENT if invalid else _CODES[error.reason]


def _status(code: int, message: str, details: list[Message]) -> Status:
    status = Status(code=code, message=message)
    for detail in details:
        packed = Any()
        packed.Pack(detail)
        status.details.append(packed)
    return status


def _info(reason: Reason, metadata: Mapping[str, str]) -> ErrorInfo:
    return ErrorInfo(reason=reason.name, domain=DOMAIN, metadata=metadata)


def _metadata(error: SignalpostError) -> Mapping[str, str]:
    match error:
        case RequestInvalid():
            return error.violations[0].metadata
        case StateInvalid():
            return {"state": error.state}
        case EndpointUnverified(status_code=int(status_code)):
            return {"statusCode": str(status_code)}
        case CursorExpired():
            return {"oldestCursor": error.oldest_cursor}
        case _:
            return {}


def _details(error: SignalpostError) -> Iterator[Message]:
    match error:
        case RequestInvalid():
            yield _bad_request(error, most_bytes=MAX_VIOLATION_BYTES)
        case StateInvalid() | EventTypeBuiltin() | EndpointUnverified():
            violation = PreconditionFailure.Violation(
                type=error.reason.name, subject=error.name, description=str(error)
            )
            yield PreconditionFailure(violations=[violation])
        case ResourceError():
            yield ResourceInfo(
                resource_type=error.resource_type,
                resource_name=error.name,
                description=str(error),
            )
        case QuotaExceeded():
            quota = QuotaFailure.Violation(subject=error.subject, description=str(error))
            yield QuotaFailure(violations=[quota])
        case Retryable():
            delay = Duration()
            delay.FromMilliseconds(round(error.retry_seconds * 1000))
            yield RetryInfo(retry_delay=delay)


def _bad_request(error: RequestInvalid, *, most_bytes: int) -> BadRequest:
    """Name the violations, as many as fit."""
    told = BadRequest()
    size = 0
    for violation in error.violations:
        named = BadRequest.FieldViolation(
            field=_cut(violation.field),
            description=_cut(violation.description),
            reason=violation.reason.name,
        )
        size += named.ByteSize() + 4
        if size > most_bytes:
            break
        told.field_violations.append(named)
    return told


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT_LENGTH else text[: MAX_TEXT_LENGTH - 1] + "…"
