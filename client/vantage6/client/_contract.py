"""The contract's modules, each loaded when something of it is first needed.

Together they take half as long to load as gRPC does. Who only imports the client (a `--help`, the completion of a
shell, a notebook's first cell) needs none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vantage6.api.v1 import (
        auth_pb2,
        auth_pb2_grpc,
        collaboration_pb2,
        collaboration_pb2_grpc,
        event_pb2,
        event_pb2_grpc,
        node_pb2,
        node_pb2_grpc,
        organization_pb2,
        organization_pb2_grpc,
        payload_pb2,
        payload_pb2_grpc,
        result_pb2,
        result_pb2_grpc,
        role_pb2,
        role_pb2_grpc,
        system_pb2,
        system_pb2_grpc,
        task_pb2,
        task_pb2_grpc,
        user_pb2,
        user_pb2_grpc,
    )

__all__ = [
    "auth_pb2",
    "auth_pb2_grpc",
    "collaboration_pb2",
    "collaboration_pb2_grpc",
    "event_pb2",
    "event_pb2_grpc",
    "node_pb2",
    "node_pb2_grpc",
    "organization_pb2",
    "organization_pb2_grpc",
    "payload_pb2",
    "payload_pb2_grpc",
    "result_pb2",
    "result_pb2_grpc",
    "role_pb2",
    "role_pb2_grpc",
    "system_pb2",
    "system_pb2_grpc",
    "task_pb2",
    "task_pb2_grpc",
    "user_pb2",
    "user_pb2_grpc",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = module = importlib.import_module(f"vantage6.api.v1.{name}")
    return module
