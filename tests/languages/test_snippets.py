"""The snippets of the README, as they stand, publish and tell why something is refused.

Only the address differs, and around each stands what every program of its language has.
"""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory

import pytest

from signalpost.v1.event_service_pb2 import ListEventsRequest
from tests.e2e.service import Service
from tests.languages.conftest import LANGUAGES, ROOT, Program, said_by

README = ROOT / "README.md"
ADDRESS = "127.0.0.1:50051"

GO = Template("""
package main

import (
	"context"
	"fmt"

	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	pb "signalpost/v1"
)

func main() {
	ctx := context.Background()
$snippet
}
""")
TYPESCRIPT = Template("""
import { ConnectError, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { BadRequestSchema } from "../../../../../gen/typescript/google/rpc/error_details_pb.js";
import { EventService } from "../../../../../gen/typescript/signalpost/v1/event_service_pb.js";
$snippet
""")
TSCONFIG = """{
  "extends": "../../tsconfig.json",
  "compilerOptions": {"outDir": "out", "rootDir": "../../../../.."},
  "include": ["snippet.ts"]
}"""
JAVA = Template("""
import com.google.rpc.BadRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import signalpost.v1.*;

public class Snippet {
  public static void main(String[] arguments) throws Exception {
$snippet
  }
}
""")


def snippet(language: str, address: str) -> str:
    """Return the block of the README in a language, with another address."""
    fence = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    [block] = fence.findall(README.read_text("utf-8"))
    assert ADDRESS in block
    return str(block).replace(ADDRESS, address)


async def run_go(code: str, folder: Path) -> str:
    (folder / "main.go").write_text(GO.substitute(snippet=code))
    return "".join(await said_by("go", "run", folder / "main.go", folder=LANGUAGES / "go"))


async def run_typescript(code: str, folder: Path) -> str:
    (folder / "snippet.ts").write_text(TYPESCRIPT.substitute(snippet=code))
    (folder / "tsconfig.json").write_text(TSCONFIG)
    tools = LANGUAGES / "typescript/node_modules/.bin"
    await said_by(tools / "tsc", "-p", folder, folder=folder)
    made = folder / "out" / folder.relative_to(ROOT) / "snippet.js"
    return "".join(await said_by("node", made, folder=folder))


async def run_java(code: str, folder: Path) -> str:
    (folder / "Snippet.java").write_text(JAVA.substitute(snippet=code))
    made = LANGUAGES / "java/target"
    path = f"{made / 'classes'}{os.pathsep}{(made / 'classpath').read_text()}"
    said = await said_by("java", "-cp", path, folder / "Snippet.java", folder=folder)
    return "".join(said)


RUNS: dict[str, tuple[str, Callable[[str, Path], Awaitable[str]]]] = {
    "go": ("go", run_go),
    "ts": ("typescript", run_typescript),
    "java": ("java", run_java),
}


@pytest.mark.parametrize("language", RUNS)
async def test_a_snippet_of_the_readme_does_what_it_says(
    programs: dict[str, Program], service: Service, language: str
) -> None:
    name, run = RUNS[language]
    assert name in programs  # its tools and its client are there
    code = snippet(language, service.address)
    with TemporaryDirectory(dir=LANGUAGES / name / ("target" if name == "java" else "build")) as at:
        told = await run(code, Path(at))
        [stored] = (await service.events.ListEvents(ListEventsRequest())).events
        assert (stored.event_type_name, stored.resource.id) == ("account.connected", "acc_42")
        assert stored.account_connected.integration == "gmail"
        assert "is required" not in told
        assert code.count("gmail") == 1
        assert "is required" in await run(code.replace("gmail", ""), Path(at))
    assert len((await service.events.ListEvents(ListEventsRequest())).events) == 1
