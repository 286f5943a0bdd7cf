"""Whatever bytes come in: they are refused with reasons, or can be delivered and read back."""

from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from signalpost.api.checks import check
from signalpost.api.convert_events import event_drafts
from signalpost.api.rendering import event_from
from signalpost.api.status import status_of
from signalpost.domain.errors import RequestInvalid
from signalpost.domain.event import EventDraft, complete
from signalpost.domain.ids import EventId
from signalpost.v1.event_service_pb2 import PublishRequest
from tests.unit.payload_examples import FULL, example
from tests.unit.test_golden_bodies import NOW

SOUND = [
    PublishRequest(events=[example(member, payload)]).SerializeToString()
    for member, payload in FULL.items()
]
CHANGES = st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=3)), max_size=3)


def changed(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for place, replacement in changes:
        at = place % len(data)
        data = data[:at] + replacement + data[at + len(replacement) :]
    return data


def take(data: bytes) -> str:
    """Do with a request what a servicer does; say how it went."""
    try:
        request = PublishRequest.FromString(data)
    except DecodeError:
        return "no message"
    found = check(request)
    drafts = [] if found else event_drafts(request, found=found, traceparent="")
    if found:
        assert status_of(RequestInvalid(found)).ByteSize() < 6000
        return "refused"
    for draft, event in zip(drafts, request.events, strict=True):
        assert isinstance(draft, EventDraft)
        read = event_from(complete(draft, event_id=EventId("e"), now=NOW))
        member = event.WhichOneof("payload") or ""
        if member != "custom":
            assert getattr(read, member) == getattr(event, member)
    return "accepted"


def test_each_way_to_go_is_taken() -> None:
    assert {take(data) for data in SOUND} == {"accepted"}
    assert take(SOUND[0][:-1]) == "no message"
    assert take(SOUND[0] + b"\x98\x06\x01") == "refused"


@given(st.sampled_from(SOUND), CHANGES)
def test_changed_bytes_never_end_in_a_failure_of_ours(
    data: bytes, changes: list[tuple[int, bytes]]
) -> None:
    assert take(changed(data, changes)) in {"accepted", "refused", "no message"}


@given(st.binary(max_size=200))
def test_random_bytes_never_end_in_a_failure_of_ours(data: bytes) -> None:
    assert take(data) in {"accepted", "refused", "no message"}
