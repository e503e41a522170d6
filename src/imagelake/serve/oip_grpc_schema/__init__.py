"""The messages of `oip.proto`, made at run time from `oip.binpb`, which `scripts/oip_schema.py` writes.

Two files that define the package `inference` cannot stand in one descriptor pool, and the clients of the protocol
bring theirs. So these live in a pool of their own, and both can be imported in one process.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from types import SimpleNamespace
from typing import Any

from imagelake._optional import need

SERVICE = "inference.GRPCInferenceService"


@cache
def _pool() -> Any:
    descriptors = need("grpc", "google.protobuf.descriptor_pb2")
    made = resources.files(__name__).joinpath("oip.binpb").read_bytes()
    pool = need("grpc", "google.protobuf.descriptor_pool").DescriptorPool()
    for file in descriptors.FileDescriptorSet.FromString(made).file:
        pool.AddSerializedFile(file.SerializeToString())
    return pool


@cache
def messages() -> SimpleNamespace:
    """The message classes by name, such as `messages().ModelInferRequest`; nested ones are attributes of theirs.

    Raises:
        MissingExtraError: protobuf is not installed.
    """
    make = need("grpc", "google.protobuf.message_factory").GetMessageClass
    kinds = _pool().FindFileByName("oip.proto").message_types_by_name
    return SimpleNamespace(**{name: make(kind) for name, kind in kinds.items()})


def methods() -> Any:
    """The calls of the service, as descriptors: `name`, `input_type`, `output_type`, `client_streaming`."""
    return _pool().FindServiceByName(SERVICE).methods
