"""Rules of this code base that no linter checks."""

import ast
import io
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "signalpost"
SOURCES = sorted(path for path in SRC.rglob("*.py") if path.parent != SRC / "v1")

TESTS = sorted(ROOT.joinpath("tests").rglob("*.py"))

MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 40
EDGES = {
    "__init__",
    "__main__",
    "api",
    "app",
    "cli",
    "client",
    "egress",
    "health",
    "sender",
    "store",
    "v1",
}
NAMES_THAT_SAY_NOTHING = {"base", "common", "helpers", "manager", "models", "utils"}


def named(path: Path) -> str:
    return str(path.relative_to(SRC))


def docstring_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """A long contract is no long function."""
    first = function.body[0]
    if ast.get_docstring(function) is None or first.end_lineno is None:
        return 0
    return first.end_lineno - first.lineno + 1


def long_functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        lines = (node.end_lineno or node.lineno) - node.lineno + 1 - docstring_lines(node)
        if lines > MOST_LINES_OF_A_FUNCTION:
            yield f"{node.name} (line {node.lineno}) has {lines} lines"


def comments(source: str) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def test_sources_are_found() -> None:
    assert SRC / "__init__.py" in SOURCES


def test_the_size_rule_sees_a_long_function_and_spares_its_docstring() -> None:
    body = "    pass\n" * MOST_LINES_OF_A_FUNCTION
    assert list(long_functions(f"async def f():\n{body}")) == ["f (line 1) has 41 lines"]
    text = "\n" * MOST_LINES_OF_A_FUNCTION
    assert not list(long_functions(f'def f():\n    """Long.{text}    """\n    pass\n'))


@pytest.mark.parametrize("path", [*SOURCES, *TESTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_and_no_function_is_too_long(path: Path) -> None:
    source = path.read_text("utf-8")
    lines = source.count("\n")
    assert lines <= MOST_LINES_OF_A_FILE, f"{lines} lines: what are the two roles in this file?"
    assert not list(long_functions(source))


@pytest.mark.parametrize("path", SOURCES, ids=named)
def test_source_file_keeps_the_house_rules(path: Path) -> None:
    source = path.read_text("utf-8")
    assert path.stem not in NAMES_THAT_SAY_NOTHING, "a file is named for its role"
    assert not [at for at, text in comments(source) if "type: ignore" in text]


def test_import_contract_of_the_core_covers_all_of_it() -> None:
    """import-linter wants the modules named; a new one must not be forgotten."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    covered = next(each for each in contracts["contracts"] if each["type"] == "forbidden")
    modules = {path.relative_to(SRC).parts[0].removesuffix(".py") for path in SOURCES}
    assert {f"signalpost.{name}" for name in modules - EDGES} <= set(covered["source_modules"])
