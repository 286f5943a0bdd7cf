"""Hundreds of hostile receivers at once: what they cost, and what others notice of them."""

import asyncio
import json
import ssl
import sys
from pathlib import Path

import pytest
import trustme

from tests.conftest import Require
from tests.sender.conftest import NAME, server_context
from tests.sender.hostile import HOSTILE, Hostile
from tests.sender.names import NameServer
from tests.sender.receivers import OK, Conversation, Receivers

MOST_GROWTH = 32 * 2**20
SECONDS = 5
CROWD = 200
ROOT = Path(__file__).parents[2]


async def forgetful(conversation: Conversation) -> None:
    """Answer, and keep nothing of the many large requests."""
    while await conversation.read():
        conversation.receiver.requests.clear()
        await conversation.say(OK)


async def start(receivers: Receivers, case: Hostile, tls: ssl.SSLContext | None) -> str:
    receiver = await receivers.start(case.behave, tls=tls)
    plain = tls is None and not case.tls
    return f"{'http' if plain else 'https'}://{NAME}:{receiver.port}/"


# The sender is in a process that has its own loop.
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_crowd_of_hostile_receivers_costs_little_and_delays_nobody(
    receivers: Receivers,
    names: NameServer,
    authority: trustme.CA,
    ca_file: Path,
    require: Require,
) -> None:
    require(Path("/proc/self/clear_refs").exists(), "needs /proc of Linux")
    tls = server_context(authority.issue_cert(NAME))
    healthy = await receivers.start(forgetful)
    crowd = [await start(receivers, case, None) for case in HOSTILE]
    crowd += [await start(receivers, case, tls) for case in HOSTILE if not case.tls]
    assert len(crowd) >= CROWD
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.sender.crowd"),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    task = {
        "hostile": crowd[:CROWD],
        "healthy": f"http://{NAME}:{healthy.port}/",
        "server": names.address,
        "ca": str(ca_file),
        "seconds": SECONDS,
    }
    output, _ = await process.communicate(json.dumps(task).encode())
    seen = json.loads(output)
    assert sum(seen["attempts"].values()) == CROWD
    assert seen["attempts"].keys() >= {"TIMED_OUT", "SUCCEEDED", "PROTOCOL_ERROR", "TLS_FAILED"}
    assert (seen["undelivered"], seen["deliveries"] > 100) == (0, True)
    assert seen["grew"] <= MOST_GROWTH
