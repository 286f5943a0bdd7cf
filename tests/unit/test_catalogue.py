"""The catalogue of the domain says what the comments of the contract say."""

import re
from pathlib import Path

from signalpost.domain.catalogue import FAMILIES, RESERVED, RESOURCE_TYPES

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
