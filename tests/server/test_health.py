"""Readiness follows what the server needs, liveness does not."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from grpc_health.v1 import health_pb2

from vantage6.common.errors import NotFound
from vantage6.server.rpc import health as module
from vantage6.server.rpc.health import Health, HealthServicer

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


class Database:
    """Answers, breaks or hangs."""

    def __init__(self) -> None:
        self.does = "answer"

    async def ping(self) -> bool:
        if self.does == "break":
            raise ConnectionError("gone")
        if self.does == "hang":
            await asyncio.Event().wait()
        return True


async def test_a_database_that_is_away_or_hangs_makes_it_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    database = Database()
    servicer: Any = HealthServicer(Health({"database": database.ping}))

    async def ask(service: str) -> int:
        return int((await servicer.Check(health_pb2.HealthCheckRequest(service=service), None)).status)

    for does, readiness in (("answer", SERVING), ("break", NOT_SERVING), ("hang", NOT_SERVING), ("answer", SERVING)):
        database.does = does
        assert await ask("") == readiness
        assert await ask("readiness") == readiness
        assert await ask("liveness") == SERVING
    with pytest.raises(NotFound):
        await ask("other")


async def test_who_watches_is_told_of_changes_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.05)
    database = Database()
    health = Health({"database": database.ping})
    servicer: Any = HealthServicer(health)
    watching = servicer.Watch(health_pb2.HealthCheckRequest(), None)
    assert (await anext(watching)).status == SERVING
    database.does = "break"
    assert (await anext(watching)).status == NOT_SERVING
    database.does = "answer"
    assert (await anext(watching)).status == SERVING
    health.leaving.set()
    assert (await anext(watching)).status == NOT_SERVING
    assert [status async for status in watching] == []
