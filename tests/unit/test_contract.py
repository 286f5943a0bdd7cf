"""What the contract promises beyond ``buf lint``, and that ``buf breaking`` guards it."""

import importlib
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf.descriptor import (
    Descriptor,
    EnumDescriptor,
    FieldDescriptor,
    FileDescriptor,
    MethodDescriptor,
)
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

from signalpost.v1.event_pb2 import Event
from signalpost.v1.payloads_pb2 import SubscriptionSuspended
from signalpost.v1.subscription_pb2 import Subscription
from signalpost.v1.webhook_pb2 import WebhookBody
from tests.conftest import Require

ROOT = Path(__file__).parents[2]
PROTOS = sorted((ROOT / "proto").rglob("*.proto"))

TYPES = Event.DESCRIPTOR.enum_types_by_name["Type"]
PAYLOADS = list(Event.DESCRIPTOR.oneofs_by_name["payload"].fields)
BUILTINS = [field for field in PAYLOADS if field.name != "custom"]
ENVELOPE = [field for field in Event.DESCRIPTOR.fields if field.containing_oneof is None]

INTEGERS_OF_64_BITS = {
    FieldDescriptor.TYPE_FIXED64,
    FieldDescriptor.TYPE_INT64,
    FieldDescriptor.TYPE_SFIXED64,
    FieldDescriptor.TYPE_SINT64,
    FieldDescriptor.TYPE_UINT64,
}
NUMBERS_AND_BOOLEANS = {
    FieldDescriptor.CPPTYPE_BOOL,
    FieldDescriptor.CPPTYPE_DOUBLE,
    FieldDescriptor.CPPTYPE_FLOAT,
    FieldDescriptor.CPPTYPE_INT32,
    FieldDescriptor.CPPTYPE_UINT32,
}


def descriptor_of(proto: Path) -> FileDescriptor:
    module = importlib.import_module(f"signalpost.v1.{proto.stem}_pb2")
    descriptor = module.DESCRIPTOR
    assert isinstance(descriptor, FileDescriptor)
    return descriptor


def name_of(described: FieldDescriptor | MethodDescriptor) -> str:
    return str(described.name)


def wire_name(field: FieldDescriptor) -> str:
    return field.name.replace("_", ".", 1)


def family(field: FieldDescriptor) -> str:
    return wire_name(field).partition(".")[0]


def values(enum: EnumDescriptor) -> dict[str, int]:
    return {value.name: value.number for value in enum.values if value.number}


def methods() -> list[MethodDescriptor]:
    return [
        method
        for proto in PROTOS
        for service in descriptor_of(proto).services_by_name.values()
        for method in service.methods
    ]


def messages_within(message: Descriptor, seen: set[str]) -> Iterator[Descriptor]:
    """The message and all it is made of, well-known types left out, each once."""
    if message.full_name in seen or message.file.package == "google.protobuf":
        return
    seen.add(message.full_name)
    yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from messages_within(field.message_type, seen)


def fields_of_payloads() -> list[FieldDescriptor]:
    seen: set[str] = set()
    return [
        field
        for payload in PAYLOADS
        if payload.message_type is not None
        for message in messages_within(payload.message_type, seen)
        for field in message.fields
    ]


def comments_of(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    at = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
    for i, message in enumerate(file.message_type):
        path = (FileDescriptorProto.MESSAGE_TYPE_FIELD_NUMBER, i)
        yield message.name, at[path]
        for j, field in enumerate(message.field):
            of_field = (*path, DescriptorProto.FIELD_FIELD_NUMBER, j)
            yield f"{message.name}.{field.name}", at[of_field]
        for j, enum in enumerate(message.enum_type):
            of_enum = (*path, DescriptorProto.ENUM_TYPE_FIELD_NUMBER, j)
            for k, value in enumerate(enum.value):
                of_value = (*of_enum, EnumDescriptorProto.VALUE_FIELD_NUMBER, k)
                yield f"{message.name}.{enum.name}.{value.name}", at[of_value]


@pytest.fixture(scope="module")
def comments(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Comments of messages, their fields and the values of their enums, white space folded."""
    out = tmp_path_factory.mktemp("contract") / "descriptors.binpb"
    command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{ROOT / 'proto'}"]
    command += ["--include_source_info", f"--descriptor_set_out={out}"]
    subprocess.run([*command, *map(str, PROTOS)], check=True, timeout=60)
    files = FileDescriptorSet.FromString(out.read_bytes()).file
    return {name: " ".join(text.split()) for file in files for name, text in comments_of(file)}


class TestFiles:
    @pytest.mark.parametrize("proto", PROTOS, ids=lambda proto: proto.name)
    def test_only_well_known_types_are_imported(self, proto: Path) -> None:
        imported = re.findall(r'^import\s.*"(.+)";', proto.read_text("utf-8"), re.MULTILINE)
        assert imported == [each.name for each in descriptor_of(proto).dependencies]
        for name in imported:
            assert name.startswith(("google/protobuf/", "signalpost/v1/"))

    def test_path_and_package_are_those_of_python(self) -> None:
        assert PROTOS
        for proto in PROTOS:
            assert proto.parent == ROOT / "proto/signalpost/v1"
            assert descriptor_of(proto).package == "signalpost.v1"


class TestEventTypes:
    def test_number_and_name_of_a_type_are_those_of_its_payload(self) -> None:
        types = {name.lower(): number for name, number in values(TYPES).items()}
        assert types == {field.name: field.number for field in PAYLOADS}

    def test_payloads_and_envelope_keep_to_their_numbers(self) -> None:
        assert all(10 <= field.number <= 999 for field in PAYLOADS)
        assert all(field.number <= 9 or field.number >= 1000 for field in ENVELOPE)

    def test_wire_names_are_unique_and_lead_back_to_their_field(self) -> None:
        names = [wire_name(field) for field in BUILTINS]
        assert len(set(names)) == len(BUILTINS)
        for name, field in zip(names, BUILTINS, strict=True):
            assert re.fullmatch(r"[a-z][a-z0-9]*\.[a-z][a-z0-9_]*", name)
            assert name.replace(".", "_", 1) == field.name

    @pytest.mark.parametrize("field", ENVELOPE, ids=name_of)
    def test_no_envelope_field_reads_like_a_type(self, field: FieldDescriptor) -> None:
        assert "_" not in field.name or field.name.startswith(("event_", "publish_", "tenant_"))

    def test_no_type_belongs_to_a_family_of_the_envelope(self) -> None:
        assert not {family(field) for field in BUILTINS} & {"event", "publish", "tenant"}

    @pytest.mark.parametrize("field", BUILTINS, ids=name_of)
    def test_comment_of_a_type_names_its_resource(
        self, field: FieldDescriptor, comments: dict[str, str]
    ) -> None:
        comment = comments[f"Event.Type.{field.name.upper()}"]
        assert re.search(r'\. Resource: "[a-z][a-z0-9_]{0,62}"\.$', comment)

    @pytest.mark.parametrize("field", BUILTINS, ids=name_of)
    def test_comments_of_a_payload_name_its_type(
        self, field: FieldDescriptor, comments: dict[str, str]
    ) -> None:
        assert field.message_type is not None
        assert comments[f"Event.{field.name}"].startswith(f"`{wire_name(field)}`")
        assert comments[field.message_type.name] == f"Payload of `{wire_name(field)}`."

    def test_families_are_reserved_from_registration(self, comments: dict[str, str]) -> None:
        said = re.search(r"The families (.+?) belong to this contract", comments["EventType.name"])
        assert said
        assert set(re.split(r", | and ", said[1])) == {family(field) for field in BUILTINS}


class TestPayloads:
    @pytest.mark.parametrize("field", fields_of_payloads(), ids=lambda field: field.full_name)
    def test_json_shows_the_field_as_it_is(self, field: FieldDescriptor) -> None:
        assert field.type != FieldDescriptor.TYPE_BYTES
        assert field.type not in INTEGERS_OF_64_BITS
        if field.cpp_type in NUMBERS_AND_BOOLEANS and not field.is_repeated:
            assert field.has_presence, "a zero could not be told from an unknown"

    def test_reasons_of_a_suspension_are_those_of_the_subscription(self) -> None:
        told = values(SubscriptionSuspended.DESCRIPTOR.enum_types_by_name["Reason"])
        kept = values(Subscription.DESCRIPTOR.enum_types_by_name["SuspensionReason"])
        assert told == kept

    def test_webhook_body_has_five_keys_in_order(self) -> None:
        keys = ["event_id", "event_type", "timestamp", "resource", "payload"]
        assert [field.json_name for field in WebhookBody.DESCRIPTOR.fields] == keys


class TestServices:
    @pytest.mark.parametrize("method", methods(), ids=name_of)
    def test_request_and_response_bear_the_name_of_the_rpc(self, method: MethodDescriptor) -> None:
        assert method.input_type.name == f"{method.name}Request"
        assert method.output_type.name == f"{method.name}Response"
        assert method.input_type.file == method.containing_service.file

    def test_a_service_lies_in_the_file_of_its_name(self) -> None:
        for proto in PROTOS:
            expected = "".join(word.title() for word in proto.stem.split("_"))
            services = list(descriptor_of(proto).services_by_name)
            assert services == ([expected] if proto.stem.endswith("_service") else [])


BREAKING = {
    "a field is removed": ("subscription.proto", "  string suspension_message = 16;\n", ""),
    "a field is renumbered": ("event.proto", "string traceparent = 6;", "string traceparent = 9;"),
    "a field is renamed": ("event.proto", "string traceparent = 6;", "string trace_parent = 6;"),
    "a field changes its type": (
        "delivery.proto",
        "int32 attempt_count = 9;",
        "int64 attempt_count = 9;",
    ),
    "an enum value is removed": ("errors.proto", "  INTERNAL = 90;\n", ""),
    "an rpc changes its kind": (
        "event_service.proto",
        "returns (stream WatchEventsResponse)",
        "returns (WatchEventsResponse)",
    ),
}


class TestBreaking:
    @pytest.fixture
    def before(self, tmp_path: Path) -> Path:
        return self.copy(tmp_path / "before")

    @pytest.fixture
    def after(self, tmp_path: Path) -> Path:
        return self.copy(tmp_path / "after")

    @staticmethod
    def copy(to: Path) -> Path:
        shutil.copytree(ROOT / "proto", to / "proto")
        shutil.copy(ROOT / "buf.yaml", to)
        return to

    @staticmethod
    def edit(contract: Path, file: str, old: str, new: str) -> None:
        path = contract / "proto/signalpost/v1" / file
        text = path.read_text("utf-8")
        assert text.count(old) == 1
        path.write_text(text.replace(old, new), "utf-8")

    @staticmethod
    def compare(require: Require, before: Path, after: Path) -> subprocess.CompletedProcess[str]:
        buf = shutil.which("buf", path=sysconfig.get_path("scripts"))
        require(buf, "buf is not installed")
        return subprocess.run(
            [str(buf), "breaking", "--against", before],
            cwd=after,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def test_additions_are_allowed(self, require: Require, before: Path, after: Path) -> None:
        self.edit(
            after, "event.proto", "string traceparent = 6;", "string traceparent = 6; string x = 9;"
        )
        result = self.compare(require, before, after)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")

    @pytest.mark.parametrize("change", BREAKING)
    def test_breaking_changes_are_found(
        self, require: Require, before: Path, after: Path, change: str
    ) -> None:
        file, old, new = BREAKING[change]
        self.edit(after, file, old, new)
        result = self.compare(require, before, after)
        assert result.returncode == 100, "buf reports findings with 100, other failures with 1"
        assert file in result.stdout
