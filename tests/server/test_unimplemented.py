"""Which RPCs of the contract the server does not answer yet. This list can only shrink."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from typing import Any

import vantage6.server.rpc

# AlgorithmService is the node's.
NOT_YET: set[str] = set()


def servicers() -> list[type[Any]]:
    found = set()
    for module in pkgutil.iter_modules(vantage6.server.rpc.__path__):
        loaded = importlib.import_module(f"vantage6.server.rpc.{module.name}")
        for _, cls in inspect.getmembers(loaded, inspect.isclass):
            # gRPC's own health service is nobody's contract.
            ours = any(base.__name__.endswith("ServiceServicer") for base in cls.__bases__)
            if ours and cls.__name__.endswith("Servicer") and cls.__module__ == loaded.__name__:
                found.add(cls)
    return sorted(found, key=lambda cls: str(cls.__name__))


def test_the_list_is_exact() -> None:
    missing = {
        f"{base.__name__.removesuffix('Servicer')}.{name}"
        for cls in servicers()
        for base in cls.__bases__
        for name, method in vars(base).items()
        if inspect.isfunction(method) and getattr(cls, name) is method
    }
    assert missing == NOT_YET


def test_every_service_of_the_server_has_a_servicer() -> None:
    assert {cls.__bases__[0].__name__ for cls in servicers()} == {
        f"{name}ServiceServicer"
        for name in (
            "Audit", "Auth", "Collaboration", "Delivery", "Event", "Node", "Organization", "Payload", "Result", "Role",
            "System", "Task", "User",
        )
    }  # fmt: skip
