"""Decides what becomes of events that are to be accepted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from signalpost.domain.errors import EventIdConflict
from signalpost.domain.event import Event
from signalpost.domain.ids import EventId, TenantId
from signalpost.ports import Accepted
from signalpost.store.matching import Recipient

EventKey = tuple[TenantId, EventId]


@dataclass(frozen=True, slots=True)
class Known:
    """What is stored of an event, as far as a repetition needs it."""

    digest: bytes
    delivery_count: int


@dataclass(frozen=True, slots=True)
class Admission:
    """The answers to a call, and the events to store with whom they go to.

    An answer is None where an event has the ID of another with other content.
    """

    answers: list[Accepted | None] = field(default_factory=list)
    fresh: dict[EventKey, tuple[Event, Sequence[Recipient]]] = field(default_factory=dict)


def admit(
    events: Sequence[Event],
    *,
    known: Mapping[EventKey, Known],
    recipients: Callable[[Event], Sequence[Recipient]],
) -> Admission:
    """Admit the events of a call, each on its own."""
    admission = Admission()
    for event in events:
        key = (event.tenant_id, event.event_id)
        former = _former(key, admission=admission, known=known)
        if former is None:
            chosen = recipients(event)
            admission.fresh[key] = (event, chosen)
            admission.answers.append(_accepted(event, chosen))
        elif former.digest == event.digest:
            admission.answers.append(
                Accepted(
                    event_id=event.event_id, duplicate=True, delivery_count=former.delivery_count
                )
            )
        else:
            admission.answers.append(None)
    return admission


def all_admitted(events: Sequence[Event], admission: Admission) -> Sequence[Accepted]:
    """Return the answers if every event of a call was admitted. Raises EventIdConflict."""
    answers: list[Accepted] = []
    for index, (event, answer) in enumerate(zip(events, admission.answers, strict=True)):
        if answer is None:
            raise EventIdConflict(event.event_id, index=index)
        answers.append(answer)
    return answers


def _former(
    key: EventKey, *, admission: Admission, known: Mapping[EventKey, Known]
) -> Known | None:
    if key in admission.fresh:
        event, chosen = admission.fresh[key]
        return Known(event.digest, len(chosen))
    return known.get(key)


def _accepted(event: Event, chosen: Sequence[Recipient]) -> Accepted:
    return Accepted(
        event_id=event.event_id,
        duplicate=False,
        delivery_count=len(chosen),
        lanes=tuple(recipient.lane for recipient in chosen if recipient.active),
    )
