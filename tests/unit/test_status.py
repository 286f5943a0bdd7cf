import pytest
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

from signalpost.api.status import internal, status_of
from signalpost.domain import errors
from signalpost.domain.errors import Reason, RequestInvalid, SignalpostError, Violation
from signalpost.v1.errors_pb2 import ErrorReason

EXAMPLES: list[tuple[SignalpostError, int, type[Message] | None]] = [
    (errors.NotFound("event", "e"), code_pb2.NOT_FOUND, ResourceInfo),
    (errors.AlreadyExists("subscription", "s"), code_pb2.ALREADY_EXISTS, ResourceInfo),
    (errors.EventIdConflict("e", index=3), code_pb2.ALREADY_EXISTS, ResourceInfo),
    (errors.EtagMismatch("subscription", "s"), code_pb2.ABORTED, ResourceInfo),
    (
        errors.StateInvalid("subscription", "s", state="PAUSED", message="it is paused"),
        code_pb2.FAILED_PRECONDITION,
        PreconditionFailure,
    ),
    (
        errors.EventTypeBuiltin("account.connected"),
        code_pb2.FAILED_PRECONDITION,
        PreconditionFailure,
    ),
    (
        errors.EndpointUnverified("hooks.example.com", "it said no", status_code=405),
        code_pb2.FAILED_PRECONDITION,
        PreconditionFailure,
    ),
    (errors.RequestIdConflict("r"), code_pb2.ALREADY_EXISTS, ResourceInfo),
    (errors.QuotaExceeded("s", "too many keys"), code_pb2.RESOURCE_EXHAUSTED, QuotaFailure),
    (errors.CursorExpired("1"), code_pb2.OUT_OF_RANGE, None),
    (errors.CredentialsInvalid("there are two"), code_pb2.UNAUTHENTICATED, None),
    (errors.Overloaded(), code_pb2.UNAVAILABLE, RetryInfo),
    (errors.StorageUnavailable(), code_pb2.UNAVAILABLE, RetryInfo),
    (errors.StorageFull(), code_pb2.RESOURCE_EXHAUSTED, RetryInfo),
    (
        RequestInvalid([Violation("a", Reason.TOO_LARGE, "is too large")]),
        code_pb2.INVALID_ARGUMENT,
        BadRequest,
    ),
]


def unpack(status: Status) -> tuple[ErrorInfo, list[str]]:
    info = ErrorInfo()
    assert status.details[0].Unpack(info)
    return info, [detail.type_url.rpartition("/")[2] for detail in status.details[1:]]


def bad_request(status: Status) -> BadRequest:
    detail = BadRequest()
    assert status.details[1].Unpack(detail)
    return detail


@pytest.mark.parametrize("error", [errors.NotFound, errors.AlreadyExists, errors.EtagMismatch])
def test_a_resource_is_named_in_words(error: type[errors.NotFound]) -> None:
    assert 'event type "billing.x"' in str(error("event_type", "billing.x"))


@pytest.mark.parametrize(("error", "code", "kind"), EXAMPLES)
def test_failure_has_its_code_and_its_details(
    error: SignalpostError, code: int, kind: type[Message] | None
) -> None:
    status = status_of(error)
    info, others = unpack(status)
    assert status.code == code
    assert status.message == str(error)
    assert (info.reason, info.domain) == (error.reason.name, "signalpost")
    assert others == ([kind.DESCRIPTOR.full_name] if kind else [])


def test_every_failure_of_the_domain_has_a_status() -> None:
    def leaves(kind: type[SignalpostError]) -> set[type[SignalpostError]]:
        below = kind.__subclasses__()
        return set().union(*map(leaves, below)) if below else {kind}

    assert {type(error) for error, _, _ in EXAMPLES} == leaves(SignalpostError)


def test_reasons_are_those_of_the_contract() -> None:
    assert {reason.name: reason.value for reason in Reason} == {
        name: number for name, number in ErrorReason.items() if number
    }


def test_violations_keep_their_reasons_and_the_first_is_that_of_the_call() -> None:
    status = status_of(
        RequestInvalid(
            [
                Violation("events[0]", Reason.TOO_LARGE, "is big", {"sizeBytes": "9"}),
                Violation("events[1].resource.id", Reason.FIELD_INVALID, "is required"),
            ]
        )
    )
    info, _ = unpack(status)
    assert (info.reason, dict(info.metadata)) == ("TOO_LARGE", {"sizeBytes": "9"})
    assert [(one.field, one.reason) for one in bad_request(status).field_violations] == [
        ("events[0]", "TOO_LARGE"),
        ("events[1].resource.id", "FIELD_INVALID"),
    ]


def test_very_many_violations_fit_into_the_trailers_of_an_answer() -> None:
    violations = [
        Violation(f"events[{n}].resource.id", Reason.FIELD_INVALID, "is required" * 9)
        for n in range(1000)
    ]
    status = status_of(RequestInvalid(violations))
    assert len(status.SerializeToString()) < 5000
    assert "and 999 more" in status.message
    assert len(bad_request(status).field_violations) > 20


def test_long_texts_are_cut() -> None:
    violation = Violation("h" * 10_000, Reason.FIELD_INVALID, "d" * 10_000)
    status = status_of(RequestInvalid([violation]))
    assert len(status.SerializeToString()) < 2000
    assert len(bad_request(status).field_violations) == 1


def test_an_internal_failure_tells_nothing_but_its_id() -> None:
    status = internal("id-1")
    info, others = unpack(status)
    assert (status.code, info.reason, dict(info.metadata), others) == (
        code_pb2.INTERNAL,
        "INTERNAL",
        {"errorId": "id-1"},
        [],
    )
