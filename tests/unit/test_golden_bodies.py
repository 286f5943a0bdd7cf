"""The webhook body of every built-in event type, byte for byte.

`golden/<wire name>.jsonl` has two lines: the smallest body of the type and one with all its
fields. They are what receivers get: a change here is a change of the contract.
"""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.json_format import MessageToDict

from signalpost.api.convert_events import event_drafts
from signalpost.api.rendering import PAYLOADS, event_from
from signalpost.domain.event import Event, EventDraft, complete
from signalpost.domain.ids import EventId
from signalpost.v1 import event_pb2
from signalpost.v1.event_service_pb2 import PublishRequest
from tests.unit.payload_examples import FULL, MINIMAL, example

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2026, 3, 5, 6, 7, 9, tzinfo=UTC)
MEMBERS = sorted(set(PAYLOADS) - {"custom"})


def golden(member: str) -> list[str]:
    name = member.replace("_", ".", 1)
    return (GOLDEN / f"{name}.jsonl").read_text("utf-8").splitlines()


def stored(event: event_pb2.Event) -> Event:
    (draft,) = event_drafts(PublishRequest(events=[event]), found=[], traceparent="")
    assert isinstance(draft, EventDraft)
    return complete(draft, event_id=EventId("evt_1"), now=NOW)


def test_every_type_has_its_examples_and_its_bodies() -> None:
    assert sorted(MINIMAL) == sorted(FULL) == MEMBERS
    names = sorted(path.stem for path in GOLDEN.glob("*.jsonl"))
    assert names == sorted(member.replace("_", ".", 1) for member in MEMBERS)


@pytest.mark.parametrize("member", MEMBERS)
def test_full_example_sets_every_field(member: str) -> None:
    payload = getattr(example(member, FULL[member]), member)
    assert set(FULL[member]) == {field.name for field in payload.DESCRIPTOR.fields}


@pytest.mark.parametrize("member", MEMBERS)
def test_body_is_the_golden_one(member: str) -> None:
    examples = [example(member, MINIMAL[member]), example(member, FULL[member])]
    assert [stored(event).body.decode() for event in examples] == golden(member)


@pytest.mark.parametrize("member", MEMBERS)
def test_body_is_read_back_as_it_was_sent(member: str) -> None:
    sent = example(member, FULL[member])
    read = event_from(stored(sent))
    assert getattr(read, member) == getattr(sent, member)
    assert read.WhichOneof("payload") == member
    assert event_pb2.Event.Type.Name(read.event_type) == member.upper()
    assert read.timestamp == sent.timestamp


@pytest.mark.parametrize("member", MEMBERS)
def test_payload_says_what_protobuf_says(member: str) -> None:
    sent = getattr(example(member, FULL[member]), member)
    body = json.loads(golden(member)[1])
    assert body["payload"] == MessageToDict(sent, preserving_proto_field_name=True)
    assert list(body) == ["event_id", "event_type", "timestamp", "resource", "payload"]
