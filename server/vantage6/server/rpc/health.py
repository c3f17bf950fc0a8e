"""grpc.health.v1: what orchestrators and balancers ask.

The service `liveness` is good while the process answers; the empty name, `readiness` and the services themselves are
good while the server can do its work.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc

from vantage6.common.errors import NotFound
from vantage6.server.rpc.system import Check

log = structlog.get_logger(__name__)

PATIENCE = 5.0
"""Seconds for one check, and between two of them while somebody watches."""
_Status = health_pb2.HealthCheckResponse
_READINESS = frozenset({"", "readiness"})


class Health:
    """Whether the server can do its work: everything it needs answers, and it is not going away."""

    def __init__(self, checks: dict[str, Check]) -> None:
        self._checks = checks
        self.leaving = asyncio.Event()

    async def why_not(self) -> str:
        """Empty when all is well."""
        if self.leaving.is_set():
            return "the server is stopping"
        for name, check in self._checks.items():
            if not await _answers(name, check):
                return f"the {name} does not answer"
        return ""


class HealthServicer(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # it ships no types
    def __init__(self, health: Health) -> None:
        self._health = health

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        status = await self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            raise NotFound(f"there is no service {request.service[:100]!r}; ask for 'liveness' or 'readiness'")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        last = None
        while True:
            leaving = self._health.leaving.is_set()
            status = await self._status(request.service)
            if status != last:
                last = status
                yield health_pb2.HealthCheckResponse(status=status)
            if leaving:
                return
            # A database tells nobody that it is away, so it is asked now and then; that the server stops is an event.
            try:
                async with asyncio.timeout(PATIENCE):
                    await self._health.leaving.wait()
            except TimeoutError:
                continue

    async def _status(self, service: str) -> health_pb2.HealthCheckResponse.ServingStatus:
        if service == "liveness":
            return _Status.SERVING
        if service not in _READINESS and not service.startswith("vantage6.api.v1."):
            return _Status.SERVICE_UNKNOWN
        return _Status.NOT_SERVING if await self._health.why_not() else _Status.SERVING


async def _answers(name: str, check: Check) -> bool:
    try:
        async with asyncio.timeout(PATIENCE):
            return await check()
    except Exception:
        log.exception("health_check_failed", part=name)
        return False
