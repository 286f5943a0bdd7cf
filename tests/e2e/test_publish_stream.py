"""A long stream through the real service: all answered in order, in bounded memory."""

import os
from collections.abc import Iterator
from pathlib import Path

from signalpost.v1.errors_pb2 import ErrorReason
from signalpost.v1.event_service_pb2 import (
    ListEventsRequest,
    PublishResult,
    PublishStreamRequest,
)
from tests.e2e.service import Service, connected

EVENTS = int(os.environ.get("SIGNALPOST_TEST_STREAM_EVENTS", "50000"))
"""How many events are streamed. Raise it before a release."""

PER_REQUEST = 100
REFUSED_EVERY = 100
MOST_GROWTH_BYTES = 50 * 1024 * 1024


def requests(first: int, last: int) -> Iterator[PublishStreamRequest]:
    for start in range(first, last, PER_REQUEST):
        numbers = range(start, min(start + PER_REQUEST, last))
        yield PublishStreamRequest(events=[connected(name(number)) for number in numbers])


def name(number: int) -> str:
    return f"not ok {number}" if is_refused(number) else f"e{number}"


def is_refused(number: int) -> bool:
    return number % REFUSED_EVERY == 37


def resident_bytes(service: Service) -> int:
    assert service.process is not None
    statm = Path(f"/proc/{service.process.pid}/statm").read_text().split()
    return int(statm[1]) * os.sysconf("SC_PAGE_SIZE")


async def stream(service: Service, first: int, last: int) -> int:
    """Stream events and judge each answer; return the most memory the service had meanwhile."""
    number, most = first, 0
    async for response in service.events.PublishStream(requests(first, last)):
        most = max(most, resident_bytes(service))
        for item in response.items:
            if is_refused(number):
                assert item.error.reason == ErrorReason.FIELD_INVALID
                assert [one.field for one in item.error.violations] == ["event_id"]
            else:
                assert item.result.event_id == f"e{number}"
                assert item.result.outcome == PublishResult.ACCEPTED
            number += 1
    assert number == last
    return most


async def stored(service: Service) -> list[str]:
    """Return the IDs of all events, the oldest first."""
    found: list[str] = []
    request = ListEventsRequest(page_size=1000)
    while True:
        page = await service.events.ListEvents(request)
        found += [event.event_id for event in page.events]
        if not page.next_page_token:
            return found[::-1]
        request.page_token = page.next_page_token


async def test_a_long_stream_is_answered_in_order_and_stored_in_bounded_memory(
    service: Service,
) -> None:
    await service.start()
    # So that everything is loaded that any stream needs.
    await stream(service, 0, 2_000)
    before = resident_bytes(service)
    most = await stream(service, 2_000, 2_000 + EVENTS)
    assert most - before < MOST_GROWTH_BYTES, (before, most)
    expected = [name(number) for number in range(2_000 + EVENTS) if not is_refused(number)]
    assert await stored(service) == expected
    assert await service.stop() == 0
