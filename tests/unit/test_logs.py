"""The log: every record is a line, and one that cannot be written harms nobody."""

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from signalpost.telemetry.logs import JsonFormatter

FULL = Path("/dev/full")

PROGRAM = """
import asyncio, logging
from signalpost.telemetry import logs

async def work():
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    logging.getLogger("signalpost").info("soon")
    await asyncio.sleep(2 * logs._FLUSH_SECONDS)
    for _ in range(1000):
        logging.getLogger("signalpost").error("x" * 100)
    print(told or "alive")

logs.configure()
asyncio.run(work())
"""


@pytest.mark.skipif(not FULL.exists(), reason="/dev/full is a disk without space")
def test_a_full_disk_of_the_log_harms_nobody() -> None:
    with FULL.open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, check=False
        )
    assert done.stdout == b"alive\n"


def test_a_reader_of_the_log_that_went_away_harms_nobody() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stderr.close()
        assert process.stdout.read() == b"alive\n"


@pytest.mark.parametrize("odd", ["\udcff", 2**70, {1: "\ud800"}, object])
def test_whatever_a_record_holds_it_is_one_line_of_json(odd: object) -> None:
    record = logging.makeLogRecord({"msg": "of %s", "args": ("\udcff\n",), "odd": odd})
    [line] = JsonFormatter().format(record).splitlines()
    assert json.loads(line)["message"] == "of \udcff\n"
    assert "odd" in json.loads(line)
