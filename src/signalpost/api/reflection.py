"""Reflection: lets tools such as grpcurl call the service without its .proto files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.rpc import error_details_pb2
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

_POOL = descriptor_pool.Default()

DETAILS = error_details_pb2.DESCRIPTOR
"""Must be in the pool, or tools could not decode the details of an error."""


class _PoolWithMethods:
    """The pool of this process, which also finds a method: by way of its service."""

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:
        service, _, method = symbol.rpartition(".")
        try:
            found = _POOL.FindServiceByName(service)
        except KeyError:
            return _POOL.FindFileContainingSymbol(symbol)
        if method not in found.methods_by_name:
            raise KeyError(symbol)
        return found.file

    def __getattr__(self, name: str) -> object:
        return getattr(_POOL, name)


def enable(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Serve the descriptors of these services, of health and of reflection itself."""
    names = (*services, health.SERVICE_NAME, reflection.SERVICE_NAME)
    pool = cast("descriptor_pool.DescriptorPool", _PoolWithMethods())
    reflection.enable_server_reflection(names, server, pool=pool)
