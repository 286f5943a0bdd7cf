"""Sends to a crowd of hostile receivers at once, in a process whose memory is looked at.

Reads a JSON object from standard input: URIs of `hostile` receivers and of a `healthy` one,
the address of a name `server`, the file of a `ca`, and the `seconds` of an attempt. Writes one:
how many `attempts` ended with which outcome, how many `deliveries` the healthy receiver took
meanwhile and how many it did not, and by how many bytes the memory `grew` at its peak.
"""

import asyncio
import itertools
import json
import sys
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import uvloop

from signalpost.domain.address import EgressPolicy
from signalpost.domain.ids import LaneId
from signalpost.domain.outcome import Outcome
from signalpost.ports import WebhookRequest
from signalpost.sender.resolver import Resolver
from signalpost.sender.sender import HttpSender

BODY = b"x" * 256 * 1024
"""As large as that of an event can be."""

_PROCESS = Path("/proc/self")


def memory(name: str) -> int:
    """Return a figure of this process, in bytes: `VmRSS`, or its peak `VmHWM`."""
    lines = (_PROCESS / "status").read_text().splitlines()
    [line] = (line for line in lines if line.startswith(name))
    return int(line.split()[1]) * 1024


def forget_the_peak() -> None:
    (_PROCESS / "clear_refs").write_text("5")


def webhook(uri: str, lane: int, seconds: float) -> WebhookRequest:
    return WebhookRequest(
        lane_id=LaneId(lane),
        endpoint_uri=uri,
        headers={},
        body=BODY,
        timeout=timedelta(seconds=seconds),
    )


async def meet(task: dict[str, Any], sender: HttpSender) -> dict[str, Any]:
    async def deliver() -> Outcome:
        return (await sender.send(webhook(task["healthy"], 0, 60))).outcome

    for _ in range(20):
        await deliver()
    forget_the_peak()
    before = memory("VmRSS")
    crowd = asyncio.gather(
        *(
            sender.send(webhook(uri, lane, task["seconds"]))
            for lane, uri in zip(itertools.count(1), task["hostile"])
        )
    )
    delivered: Counter[bool] = Counter()
    while not crowd.done():
        delivered[await deliver() is Outcome.SUCCEEDED] += 1
    attempts = Counter(result.outcome.name for result in await crowd)
    grew = memory("VmHWM") - before
    return {
        "attempts": attempts,
        "deliveries": delivered[True],
        "undelivered": delivered[False],
        "grew": grew,
    }


async def main(task: dict[str, Any]) -> dict[str, Any]:
    sender = HttpSender(
        policy=EgressPolicy(loopback=True),
        own_listeners=lambda: (),
        resolver=Resolver([task["server"]]),
        ca_file=Path(task["ca"]),
    )
    try:
        return await meet(task, sender)
    finally:
        await sender.aclose()


if __name__ == "__main__":
    json.dump(uvloop.run(main(json.load(sys.stdin))), sys.stdout)
