"""Schemas of payloads: what is refused, what they find, and that they neither read nor linger."""

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import orjson
import pytest

from signalpost.domain.event_type import MAX_SCHEMA_BYTES
from signalpost.publishing import schemas
from signalpost.publishing.schemas import MOST_PROBLEMS, Schema, SchemaInvalid

IN_OPEN = 0x20


def compiled(schema: object) -> Schema:
    return Schema.compile(orjson.dumps(schema))


def found(schema: object, payload: object) -> list[tuple[str, str]]:
    problems = compiled(schema).problems(orjson.dumps(payload))
    return [(problem.path, problem.description) for problem in problems]


def chain(length: int, link: Any) -> dict[str, Any]:
    """Define places that each lead to the next one."""
    places = {f"a{at}": link({"$ref": f"#/$defs/a{at + 1}"}) for at in range(length)}
    places[f"a{length}"] = {"type": "object"}
    return {"$defs": places, "$ref": "#/$defs/a0"}


def test_problems_name_their_places() -> None:
    schema = {
        "type": "object",
        "required": ["id"],
        "properties": {
            "lines": {"items": {"properties": {"a b": {"type": "integer", "minimum": 1}}}}
        },
    }
    payload = {"lines": [{"a b": 1}, {"a b": 0}, {"a b": "secret"}]}
    assert sorted(found(schema, payload)) == [
        ("", '"id" is a required property'),
        ('["lines"][1]["a b"]', "the value is less than the minimum of 1"),
        ('["lines"][2]["a b"]', 'the value is not of type "integer"'),
    ]
    assert found(schema, {"id": 7, "lines": []}) == []


def test_very_wrong_payload_is_not_looked_at_to_its_end() -> None:
    assert len(found({"additionalProperties": False, "items": False}, {"a": 1})) == 1
    schema = {"properties": {"l": {"items": {"type": "string"}}}}
    assert len(found(schema, {"l": [1] * 1000})) == MOST_PROBLEMS


@pytest.mark.parametrize(
    "schema",
    [
        {"items": {"enum": list(range(10_000))}},
        {"anyOf": [{"items": {"enum": list(range(10_000))}}, {"items": False}]},
        {"items": {"not": {"type": "integer"}}},
    ],
)
def test_large_payload_is_judged_as_a_whole(schema: dict[str, Any]) -> None:
    whole = {"properties": {"l": schema}}
    assert found(whole, {"l": [-1] * 50_000}) == [
        ("", "does not satisfy the schema; it is too large to say where")
    ]
    assert [path for path, _ in found(whole, {"l": [-1]})] != [""]


def test_large_payload_may_be_right() -> None:
    assert found({"properties": {"l": {"items": {"enum": [1, 2]}}}}, {"l": [2] * 50_000}) == []


def test_payload_that_is_too_much_work_is_refused_unjudged() -> None:
    schema = {"properties": {"l": {"items": {"allOf": [{"minimum": at} for at in range(1000)]}}}}
    [(path, description)] = found(schema, {"l": [5000] * 50_000})
    assert (path, description.partition(",")[0]) == ("", "has 50002 values")
    assert found(schema, {"l": [5000] * 5_000}) == []


def test_long_key_is_cut_in_a_path() -> None:
    [(path, _)] = found({"additionalProperties": {"type": "string"}}, {"k" * 100: 1})
    assert path == '["' + "k" * 40 + '…"]'


def test_references_within_the_schema_are_followed() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$defs": {"%id": {"type": "integer"}, "n": {"$anchor": "name", "type": "string"}},
        "properties": {"id": {"$ref": "#/$defs/%25id"}, "name": {"$ref": "#name"}},
    }
    assert [path for path, _ in found(schema, {"id": "x", "name": 1})] == ['["id"]', '["name"]']


def test_references_may_lead_to_references() -> None:
    assert found(chain(140, lambda then: then), {}) == []


def test_schema_may_apply_itself_to_what_lies_within() -> None:
    tree = {"properties": {"children": {"items": {"$ref": "#"}}}, "required": ["id"]}
    payload = {"id": 1, "children": [{"id": 2, "children": [{"children": []}]}]}
    [(path, _)] = found(tree, payload)
    assert path == '["children"][0]["children"][0]'


def test_format_only_describes() -> None:
    assert found({"properties": {"at": {"format": "date-time"}}}, {"at": "yesterday"}) == []


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "thing"}, "at #/type: must be array, boolean, integer, null, number, "),
        ({"items": {"type": ["null", "x"]}}, "at #/items/type: must be array, boolean, "),
        ({"properties": {"a": {"minLength": -1}}}, "at #/properties/a/minLength: "),
        ({"pattern": "("}, "at #/pattern: must be a regular expression that"),
        ({"pattern": "(?=a)"}, "at #/pattern: must be a regular expression that"),
        ({"patternProperties": {"(": {}}}, "at #/patternProperties/(: must be a regular expr"),
        ({"pattern": r"(a)\1"}, "at #/pattern: "),
        ({"pattern": "(a{1000}){1000}"}, "at #/pattern: "),
        ({"allOf": 5}, "at #/allOf: "),
        ({"$ref": "#/$defs/nowhere"}, "does not exist"),
        ({"$ref": "#nowhere"}, "nowhere"),
        ({"$ref": "other.json"}, "at #/$ref: must lead to a place within"),
        ({"not": {"$dynamicRef": "x#y"}}, "at #/not/$dynamicRef: must lead to"),
        ({"items": {"$id": "https://example.com/"}}, "at #/items/$id: must not be there"),
        ({"$schema": "http://json-schema.org/draft-07/schema#"}, "at #/$schema: must be "),
        ({"$ref": "#"}, "refers to itself without an end"),
        ({"allOf": [{"$ref": "#/anyOf/0"}], "anyOf": [{"$ref": "#"}]}, "without an end"),
        (chain(40, lambda then: {"allOf": [then, then]}), "may apply more than 10000 schemas"),
        ({"allOf": [{"properties": {"a": {"$ref": "#"}}}] * 3}, "may apply more than 10000"),
        (chain(150, lambda then: then), "too many times"),
        ({"enum": [[[at]] for at in range(4000)]}, "may apply more than 10000"),
        ({"const": {"a": [0] * 10_000}}, "may apply more than 10000"),
        ({"enum": ["x" * MAX_SCHEMA_BYTES]}, f"{MAX_SCHEMA_BYTES} at most"),
    ],
)
def test_schema_that_cannot_be_used_is_refused_with_the_place(schema: object, where: str) -> None:
    with pytest.raises(SchemaInvalid) as caught:
        compiled(schema)
    assert where in str(caught.value)


@pytest.mark.parametrize(
    "pattern", ["^(a+)+$", "^(a|a)*$", "^(a|aa)+$", "^(.*a){12}$", "^([a-zA-Z]+)*$", "(a+a+)+y"]
)
def test_patterns_end_where_an_engine_that_goes_back_would_not(pattern: str) -> None:
    schema = {"properties": {"name": {"pattern": pattern}}}
    for text in ("a" * 40 + "!", "a" * 10_000 + "!"):
        [(path, description)] = found(schema, {"name": text})
        assert (path, description) == ('["name"]', f'the value does not match "{pattern}"')


@contextmanager
def http_canary() -> Iterator[tuple[str, list[str]]]:
    """Serve a schema, and keep who asks for it."""
    hits: list[str] = []

    class Canary(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            hits.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Canary) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", hits
        finally:
            server.shutdown()
            thread.join()


class FileCanary:
    """Tells whether a file was opened."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._watch = libc.inotify_init1(os.O_NONBLOCK)
        assert libc.inotify_add_watch(self._watch, os.fsencode(path), IN_OPEN) > 0

    def opened(self) -> bool:
        try:
            return bool(os.read(self._watch, 4096))
        except BlockingIOError:
            return False

    def close(self) -> None:
        os.close(self._watch)


@pytest.mark.parametrize("keyword", ["$ref", "$dynamicRef", "$schema", "$id"])
@pytest.mark.parametrize("guarded", [True, False])
def test_schema_that_leads_outside_is_refused_unread(
    tmp_path: Path, keyword: str, *, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "canary.json"
    path.write_text("{}")
    file = FileCanary(path)
    if not guarded:  # the second line of defence stands alone
        monkeypatch.setattr(schemas, "_foreign", lambda *_: ())
    with http_canary() as (address, hits):
        outside = [
            f"{address}/schema",
            f"{address.replace('http', 'https')}/schema",
            path.as_uri(),
            str(path),
            f"//{address.partition('//')[2]}/schema",
            "data:application/json,%7B%7D",
        ]
        for uri in outside:
            for schema in ({keyword: uri}, {"properties": {"a": {"anyOf": [{keyword: uri}]}}}):
                if guarded or keyword.lower().endswith("ref"):
                    with pytest.raises(SchemaInvalid):
                        compiled(schema)
                else:
                    use(schema)
        assert (hits, file.opened()) == ([], False)
        with urlopen(f"{address}/alive", timeout=10):  # noqa: S310 - our own server
            path.read_text()
        assert (hits, file.opened()) == (["/alive"], True)
    file.close()


def use(schema: object) -> None:
    with suppress(SchemaInvalid):
        list(compiled(schema).problems(b'{"a":1}'))
