"""The catalogue of the domain says what the comments of the contract say."""

import re
from pathlib import Path

import orjson
import pytest
from google.protobuf.json_format import ParseDict

from signalpost.api.checks import check
from signalpost.api.convert_event_types import builtin_event_types
from signalpost.api.rendering import render
from signalpost.domain.catalogue import DESCRIPTIONS, FAMILIES, RESERVED, RESOURCE_TYPES
from signalpost.domain.event_type import RESERVED_FAMILIES
from signalpost.v1.event_pb2 import Event

EVENT_PROTO = Path(__file__).parents[2] / "proto" / "signalpost" / "v1" / "event.proto"
VALUE = re.compile(r"((?:^ +//.*\n)+)^ +([A-Z_]+) = \d+;", re.MULTILINE)


def comments() -> dict[str, str]:
    """Return the comment of each built-in type by its wire name."""
    enum = EVENT_PROTO.read_text("utf-8").partition("enum Type {")[2].partition("\n  }")[0]
    found = {name: " ".join(text.replace("//", "").split()) for text, name in VALUE.findall(enum)}
    del found["TYPE_UNSPECIFIED"], found["CUSTOM"]
    return {name.lower().replace("_", ".", 1): text for name, text in found.items()}


def test_resource_types_are_those_of_the_contract() -> None:
    named = {name: re.findall(r'Resource: "([a-z]+)"', text) for name, text in comments().items()}
    assert named == {name: [resource] for name, resource in RESOURCE_TYPES.items()}


def test_reserved_types_are_those_that_only_the_service_publishes() -> None:
    reserved = {name for name, text in comments().items() if "ublished by this service" in text}
    assert reserved == RESERVED


def test_families_are_those_that_the_contract_keeps_for_itself() -> None:
    text = EVENT_PROTO.with_name("event_type_service.proto").read_text("utf-8")
    plain = " ".join(text.replace("//", "").split())
    families = re.search(r"The families ([a-z, ]+) and ([a-z]+) belong to this contract", plain)
    assert families is not None
    assert {*families[1].split(", "), families[2]} == FAMILIES


def test_descriptions_begin_as_the_comments_do() -> None:
    assert set(DESCRIPTIONS) == set(RESOURCE_TYPES)
    for name, text in comments().items():
        assert text.startswith(DESCRIPTIONS[name].removesuffix("."))


def test_families_of_the_envelope_are_reserved_as_the_contract_says() -> None:
    text = EVENT_PROTO.with_name("event_type_service.proto").read_text("utf-8")
    plain = " ".join(text.replace("//", "").split())
    reserved = re.search(r"contract, and ([a-z, ]+) and ([a-z]+) are reserved", plain)
    assert reserved is not None
    assert {*reserved[1].split(", "), reserved[2]} == RESERVED_FAMILIES - FAMILIES


@pytest.mark.parametrize("name", RESOURCE_TYPES)
def test_built_in_type_has_an_example_that_is_a_sound_payload_of_it(name: str) -> None:
    event_type = builtin_event_types()[name]
    assert (event_type.name, event_type.builtin) == (name, True)
    assert event_type.example is not None
    member = name.replace(".", "_", 1)
    example = orjson.loads(event_type.example)
    event = ParseDict({"resource": {"id": "r"}, member: example}, Event())
    assert check(event) == []
    assert render(getattr(event, member)) == event_type.example
