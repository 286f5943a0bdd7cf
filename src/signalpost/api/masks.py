"""Field masks of updates (https://google.aip.dev/134): which fields change, and changing them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar, cast

from google.protobuf.descriptor import Descriptor
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from signalpost.api.constraints import MAX_PATHS
from signalpost.domain.errors import Reason, Violation

M = TypeVar("M", bound=Message)

_ALL = "*"


def mask_violations(message: Message, mask: FieldMask) -> list[Violation]:
    """Name each path of a mask, if not too many, that is none of the message."""
    if list(mask.paths) == [_ALL]:
        return []
    # The stubs know two names for one class.
    descriptor = cast("Descriptor", message.DESCRIPTOR)
    return [
        Violation(
            f"update_mask.paths[{index}]",
            Reason.FIELD_INVALID,
            "must stand alone" if path == _ALL else f'"{path}" is no field of {descriptor.name}',
        )
        for index, path in enumerate(mask.paths[:MAX_PATHS])
        if not _names_field(descriptor, path)
    ]


def chosen(message: Message, mask: FieldMask, *, ignored: Collection[str]) -> FieldMask:
    """Return the paths to change: those of `mask`, all for "*", those that are set if it is empty.

    Fields that are `ignored` (output only, identifiers) are left out wherever they are named. The
    mask was checked (`mask_violations`).
    """
    if list(mask.paths) == [_ALL]:
        paths = [field.name for field in message.DESCRIPTOR.fields]
    else:
        paths = list(mask.paths) or [field.name for field, _ in message.ListFields()]
    return FieldMask(paths=[path for path in paths if path.partition(".")[0] not in ignored])


def merged(stored: M, given: Message, mask: FieldMask) -> M:
    """Return `stored` with the fields of `mask` as they are in `given`, unset where they are so."""
    result = type(stored)()
    result.CopyFrom(stored)
    source = type(given)()
    source.CopyFrom(given)
    for path in mask.paths:
        _make_parents(source, path)
    mask.MergeMessage(source, result, replace_message_field=True, replace_repeated_field=True)
    return result


def _make_parents(message: Message, path: str) -> None:
    """Let every message on the way to a field be there: a merge stops where one is missing."""
    for name in path.split(".")[:-1]:
        message = getattr(message, name)
        message.SetInParent()


def _names_field(descriptor: Descriptor, path: str) -> bool:
    within: Descriptor | None = descriptor
    for name in path.split("."):
        field = None if within is None else within.fields_by_name.get(name)
        if field is None:
            return False
        within = None if field.is_repeated else _own(field.message_type)
    return True


def _own(descriptor: Descriptor | None) -> Descriptor | None:
    """Return a message of the contract: half of a `Duration` and half of another is neither."""
    if descriptor is None or descriptor.full_name.startswith("google.protobuf."):
        return None
    return descriptor
