"""Slots: as many as the site says, and turns by user."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from vantage6.api.v1.delivery_pb2 import Assignment, Party
from vantage6.node import states
from vantage6.node.config import LimitsSection
from vantage6.node.fairness import FairSlots, window_of
from vantage6.node.runtimes.base import Exit, RunSpec


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


async def test_who_has_least_at_work_is_next_though_another_waits_longer() -> None:
    crowd = Crowd(runs=2)
    for name, user in (("a1", "alice"), ("c1", "carol"), ("a2", "alice"), ("b1", "bob")):
        await crowd.come(name, user)
    await crowd.end("c1")
    assert crowd.order == ["a1", "c1", "b1"]
    for name in ("a1", "b1", "a2"):
        await crowd.end(name)


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


@pytest.mark.row("M50")
async def test_more_are_taken_in_than_work_and_turns_are_by_user(site: SiteUnderTest) -> None:
    """The window that the node offers has room for others behind the one who asks for most."""
    order: list[str] = []
    go_on = asyncio.Event()

    async def algorithm(spec: RunSpec) -> Exit:
        order.append(spec.key.split("-")[1])
        await go_on.wait()
        (spec.run_dir / "output").write_bytes(b"json.1")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    site.settings["limits"] = {"runs": 1, "waiting": 5}
    connection = await site.online()
    assert connection.hello.window == 6
    for result_id, user in ((21, "alice"), (22, "alice"), (23, "alice"), (24, "alice"), (25, "bob")):
        connection.send(assignment=site.assignment(result_id=result_id, username=user))
    await site.server.report(states.RUNNING)
    assert site.node
    while len(site.node.runs._slots._waiting.get((2, "bob"), ())) < 1:  # noqa: ASYNC110 - until all have come
        await asyncio.sleep(0.01)
    go_on.set()
    for _ in range(5):
        await site.server.report(states.COMPLETED)
    assert order.index("25") <= 2, order


def test_the_window_is_no_wider_than_a_server_grants() -> None:
    assert window_of(LimitsSection(runs=1000, waiting=500)) == 1000


async def test_runs_that_are_at_work_already_count_even_over_the_limit() -> None:
    crowd = Crowd(runs=1)
    run = Assignment(username="alice", initiator=Party(organization_id=1))
    with crowd.slots.held(run):
        with crowd.slots.held(run):
            await crowd.come("bob", "bob")
        await asyncio.sleep(0)
        assert crowd.order == []  # One of two has ended, and there is one slot.
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert crowd.order == ["bob"]
    await crowd.end("bob")
