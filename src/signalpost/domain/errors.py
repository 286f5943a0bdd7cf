"""What can go wrong for a caller.

    SignalpostError
    ├── RequestInvalid        the request itself is at fault: all violations at once
    ├── NotFound              no such resource (or not for this caller)
    ├── AlreadyExists         a resource of this name exists
    ├── EventIdConflict       the event's ID belongs to an event with other content
    ├── RequestIdConflict     the request's ID belongs to another request
    ├── EtagMismatch          the resource changed since it was read
    ├── StateInvalid          the resource is not in a state for this
    ├── EventTypeBuiltin      the event type belongs to the contract and cannot be changed
    ├── EndpointUnverified    the endpoint did not agree to receive events
    ├── QuotaExceeded         there are too many of a resource
    ├── CursorExpired         what a stream would go on with is no longer stored
    ├── CredentialsInvalid    the credentials are missing or invalid
    ├── Overloaded            the server is overloaded or shutting down; retry
    ├── StorageUnavailable    storage does not answer; retry
    └── StorageFull           the database or its disk is full; retry later

Each carries its data and builds its own message. None carries a secret.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum


class Reason(IntEnum):
    """Machine-readable causes: names and numbers of `ErrorReason` in the contract."""

    FIELD_INVALID = 1
    EVENT_TYPE_MISMATCH = 2
    EVENT_TYPE_UNKNOWN = 3
    PAYLOAD_INVALID = 4
    TOO_LARGE = 5
    PAGE_TOKEN_INVALID = 6
    ENDPOINT_FORBIDDEN = 7
    EVENT_TYPE_RESERVED = 8
    NOT_FOUND = 20
    ALREADY_EXISTS = 21
    EVENT_ID_CONFLICT = 22
    ETAG_MISMATCH = 23
    REQUEST_ID_CONFLICT = 24
    STATE_INVALID = 40
    EVENT_TYPE_BUILTIN = 41
    ENDPOINT_UNVERIFIED = 42
    CURSOR_EXPIRED = 43
    RATE_LIMITED = 60
    QUOTA_EXCEEDED = 61
    OVERLOADED = 62
    STORAGE_UNAVAILABLE = 63
    STORAGE_FULL = 64
    CREDENTIALS_INVALID = 80
    PERMISSION_DENIED = 81
    INTERNAL = 90


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with one field; `field` is its path, such as "events[3].resource.id".

    It is empty if the request as a whole is at fault.
    """

    field: str
    reason: Reason
    description: str
    metadata: dict[str, str] = dataclasses.field(default_factory=dict)


class SignalpostError(Exception):
    """A failure that a caller is told about."""

    reason: Reason


class RequestInvalid(SignalpostError):
    """The request is at fault; carries every violation, at least one."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        self.reason = self.violations[0].reason
        first = self.violations[0]
        more = len(self.violations) - 1
        rest = f" (and {more} more)" if more else ""
        where = f"{first.field}: " if first.field else ""
        super().__init__(f"{where}{first.description}{rest}")


class ResourceError(SignalpostError):
    """A failure about one named resource."""

    def __init__(self, resource_type: str, name: str, *, message: str) -> None:
        self.resource_type = resource_type
        self.name = name
        super().__init__(message)


class NotFound(ResourceError):
    """There is no such resource.

    `resource_type` is "event", "event_type", "subscription" or "delivery".
    """

    reason = Reason.NOT_FOUND

    def __init__(self, resource_type: str, name: str) -> None:
        super().__init__(resource_type, name, message=f'no {_words(resource_type)} "{name}"')


class AlreadyExists(ResourceError):
    """A resource of this name exists."""

    reason = Reason.ALREADY_EXISTS

    def __init__(self, resource_type: str, name: str) -> None:
        message = f'{_words(resource_type)} "{name}" already exists'
        super().__init__(resource_type, name, message=message)


class EventIdConflict(ResourceError):
    """The ID belongs to a stored event with other content.

    `index` is its place in the request, None if it is told in that place.
    """

    reason = Reason.EVENT_ID_CONFLICT

    def __init__(self, event_id: str, *, index: int | None = None) -> None:
        self.index = index
        where = "" if index is None else f"events[{index}]: "
        message = f'{where}event "{event_id}" is stored with other content'
        super().__init__("event", event_id, message=message)


class RequestIdConflict(ResourceError):
    """The ID belongs to a request that was not this one."""

    reason = Reason.REQUEST_ID_CONFLICT

    def __init__(self, request_id: str) -> None:
        message = f'request "{request_id}" was another one'
        super().__init__("request", request_id, message=message)


class EtagMismatch(ResourceError):
    """The resource changed since it was read."""

    reason = Reason.ETAG_MISMATCH

    def __init__(self, resource_type: str, name: str) -> None:
        message = f'{_words(resource_type)} "{name}" changed; read it again'
        super().__init__(resource_type, name, message=message)


class StateInvalid(ResourceError):
    """The resource is not in a state for this."""

    reason = Reason.STATE_INVALID

    def __init__(self, resource_type: str, name: str, *, state: str, message: str) -> None:
        self.state = state
        super().__init__(resource_type, name, message=message)


class EventTypeBuiltin(ResourceError):
    """The event type belongs to the contract and cannot be changed."""

    reason = Reason.EVENT_TYPE_BUILTIN

    def __init__(self, name: str) -> None:
        message = f'event type "{name}" is built in and cannot be changed'
        super().__init__("event_type", name, message=message)


class EndpointUnverified(ResourceError):
    """An endpoint, named by its host, did not agree to receive events; `problem` says why.

    `status_code` is that of its answer, None if there was none.
    """

    reason = Reason.ENDPOINT_UNVERIFIED

    def __init__(self, host: str, problem: str, *, status_code: int | None) -> None:
        self.status_code = status_code
        message = f"the endpoint did not agree to receive events: {problem}"
        super().__init__("endpoint", host, message=message)


class QuotaExceeded(SignalpostError):
    """There are too many of a resource; `subject` names whose quota it is."""

    reason = Reason.QUOTA_EXCEEDED

    def __init__(self, subject: str, message: str) -> None:
        self.subject = subject
        super().__init__(message)


class CursorExpired(SignalpostError):
    """Events after the cursor may be gone; from `oldest_cursor` on, all are there."""

    reason = Reason.CURSOR_EXPIRED

    def __init__(self, oldest_cursor: str) -> None:
        self.oldest_cursor = oldest_cursor
        super().__init__("events after the cursor are no longer stored")


class CredentialsInvalid(SignalpostError):
    """The credentials are missing or invalid; the message repeats none of them."""

    reason = Reason.CREDENTIALS_INVALID


class Retryable(SignalpostError):
    """A failure of the moment: the same call may succeed after `retry_seconds`."""

    def __init__(self, message: str, *, retry_seconds: float) -> None:
        self.retry_seconds = retry_seconds
        super().__init__(message)


class Overloaded(Retryable):
    """The server is overloaded or shutting down."""

    reason = Reason.OVERLOADED

    def __init__(self, message: str = "the server is shutting down") -> None:
        super().__init__(message, retry_seconds=1)


class StorageUnavailable(Retryable):
    """Storage does not answer."""

    reason = Reason.STORAGE_UNAVAILABLE

    def __init__(self) -> None:
        super().__init__("storage does not answer; try again", retry_seconds=1)


class StorageFull(Retryable):
    """The database or its disk is full."""

    reason = Reason.STORAGE_FULL

    def __init__(self) -> None:
        super().__init__("storage is full; nothing was stored", retry_seconds=30)


def _words(resource_type: str) -> str:
    return resource_type.replace("_", " ")
