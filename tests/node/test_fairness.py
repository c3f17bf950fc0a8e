"""Slots: as many as the site says, and turns by user."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vantage6.api.v1.delivery_pb2 import Assignment, Party
from vantage6.node.config import LimitsSection
from vantage6.node.fairness import FairSlots


class Crowd:
    """Runs that hold their slot until told to let go; `order` is who got one, in order."""

    def __init__(self, **limits: Any) -> None:
        self.slots = FairSlots(LimitsSection(**limits))
        self.order: list[str] = []
        self.letting_go: dict[str, asyncio.Event] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def come(self, name: str, user: str, organization: int = 1) -> None:
        self.letting_go[name] = asyncio.Event()
        run = Assignment(username=user, initiator=Party(organization_id=organization))
        self.tasks[name] = asyncio.create_task(self._run(name, run))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _run(self, name: str, run: Assignment) -> None:
        async with self.slots.of(run):
            self.order.append(name)
            await self.letting_go[name].wait()

    async def end(self, name: str) -> None:
        self.letting_go[name].set()
        await self.tasks[name]
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_who_asked_a_hundred_times_waits_behind_who_asked_once() -> None:
    crowd = Crowd(runs=1)
    for number in range(100):
        await crowd.come(f"alice{number}", "alice")
    await crowd.come("bob", "bob")
    await crowd.end("alice0")
    assert crowd.order == ["alice0", "alice1"]  # She was the only one who waited when her turn was given.
    await crowd.end("alice1")
    assert crowd.order[-1] == "bob"
    for task in crowd.tasks.values():
        task.cancel()
    await asyncio.gather(*crowd.tasks.values(), return_exceptions=True)


@pytest.mark.parametrize("limit", ["runs_per_user", "runs_per_organization"])
async def test_limits_of_one(limit: str) -> None:
    crowd = Crowd(runs=8, **{limit: 2})
    for number in range(4):
        await crowd.come(f"a{number}", "alice")
    await crowd.come("b", "bob", organization=2)
    assert crowd.order == ["a0", "a1", "b"]
    await crowd.end("a0")
    assert crowd.order == ["a0", "a1", "b", "a2"]
    for name in ("a1", "b", "a2", "a3"):
        await crowd.end(name)


async def test_who_goes_away_leaves_no_slot_taken() -> None:
    crowd = Crowd(runs=1)
    for name in ("a", "b", "c"):
        await crowd.come(name, name)
    crowd.tasks["b"].cancel()
    await asyncio.gather(crowd.tasks["b"], return_exceptions=True)
    await crowd.end("a")
    assert crowd.order == ["a", "c"]
    crowd.tasks["c"].cancel()
    await asyncio.gather(crowd.tasks["c"], return_exceptions=True)
    await crowd.come("d", "d")
    assert crowd.order[-1] == "d"
    await crowd.end("d")
