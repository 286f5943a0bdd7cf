"""A received webhook as text that is safe on a terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime

from rich.text import Text

from signalpost.cli.receiver import Request
from signalpost.cli.terminal import visible
from signalpost.cli.verification import Result, Verification

MAX_SHOWN = 8_000
"""Most characters of a payload that are shown."""

_STYLES = {
    Result.VERIFIED: "green",
    Result.NOT_VERIFIED: "bold red",
    Result.UNVERIFIED: "yellow",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """What a body says, safe to print; without a type if it is no webhook of this service."""

    event_type: str
    resource: str
    payload: str


def read(body: bytes) -> Webhook:
    """Read a body leniently: whatever it is, the result can be shown."""
    text = body.decode(errors="replace")
    try:
        document = json.loads(text)
        resource = document["resource"]
        return Webhook(
            event_type=visible(str(document["event_type"])),
            resource=visible(f"{resource['type']} {resource['id']}"),
            payload=_shown(json.dumps(document["payload"], indent=2, ensure_ascii=False)),
        )
    except (ValueError, RecursionError, KeyError, TypeError):
        return Webhook(event_type="", resource="", payload=_shown(text))


def render(
    request: Request, verification: Verification, *, status: int, received: datetime
) -> Text:
    """Describe a request, and what it was answered: one line, then the payload."""
    webhook = read(request.body)
    text = Text()
    text.append(f"{received:%H:%M:%S}.{received.microsecond // 1000:03}Z  ", style="dim")
    text.append(webhook.event_type or "not a webhook of Signalpost", style="bold")
    text.append(f"  {visible(request.headers.get('webhook-id', 'no webhook-id'))}")
    text.append(f"  {webhook.resource}  " if webhook.resource else "  ")
    text.append(_words(verification), style=_STYLES[verification.result])
    text.append(f"  answered {status}", style="dim" if status < 300 else "red")
    text.append("\n")
    text.append("".join(f"    {line}\n" for line in webhook.payload.split("\n")))
    return text


def _words(verification: Verification) -> str:
    if not verification.reason:
        return verification.result.value
    return f"{verification.result.value} ({verification.reason})"


def _shown(text: str) -> str:
    more = len(text) - MAX_SHOWN
    shown = visible(text[:MAX_SHOWN], keep="\n")
    return shown if more <= 0 else f"{shown}\n... and {more} more characters"
