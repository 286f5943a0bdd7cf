"""A program of each language publishes an event, and reads why another one is refused."""

import pytest

from signalpost.v1.event_pb2 import Event, Resource
from signalpost.v1.event_service_pb2 import GetEventRequest
from signalpost.v1.payloads_pb2 import AccountConnected, Actor
from tests.e2e.service import Service
from tests.languages.conftest import Program

LANGUAGES = ("go", "typescript", "java")


@pytest.mark.parametrize("language", LANGUAGES)
async def test_what_a_program_publishes_is_stored_as_it_was_typed(
    programs: dict[str, Program], service: Service, language: str
) -> None:
    told = await programs[language].run(service.address, event_id="evt-1")
    assert told["outcome"] == "ACCEPTED"
    stored = (await service.events.GetEvent(GetEventRequest(event_id="evt-1"))).event
    assert stored.event_type == Event.ACCOUNT_CONNECTED
    assert stored.resource == Resource(type="account", id="acc_42")
    assert stored.account_connected == AccountConnected(
        integration="gmail",
        scopes=["mail.read"],
        actor=Actor(kind=Actor.USER, id="ada"),
    )


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_program_reads_the_payload_of_a_webhook(
    programs: dict[str, Program], service: Service, language: str
) -> None:
    told = await programs[language].run(service.address)
    assert told["integration"] == "gmail"


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_program_reads_every_detail_of_a_refusal(
    programs: dict[str, Program], service: Service, language: str
) -> None:
    told = await programs[language].run(service.address)
    assert told["code"].replace("_", "").upper() == "INVALIDARGUMENT"
    assert (told["domain"], told["reason"]) == ("signalpost", "FIELD_INVALID")
    assert all(each["description"] for each in told["violations"])
    assert [(each["field"], each["reason"]) for each in told["violations"]] == [
        ("events[0].resource.id", "FIELD_INVALID"),
        ("events[0].account_connected.integration", "FIELD_INVALID"),
    ]


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_program_can_read_the_longest_refusal(
    programs: dict[str, Program], service: Service, language: str
) -> None:
    """Clients accept trailers of about 8 KiB."""
    told = await programs[language].run(service.address, others=1000)
    assert told["reason"] == "FIELD_INVALID"
    fields = [each["field"] for each in told["violations"]]
    assert fields[:3] == [
        "events[0].resource.id",
        "events[0].account_connected.integration",
        "events[1].resource.id",
    ]
    assert 20 < len(fields) < 2000
