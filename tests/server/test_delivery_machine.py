"""Every sequence of messages, losses, repetitions, reorderings and restarts ends well.

Hypothesis drives the real dispatcher and report desk, on a real database, with nodes that keep a journal as the real
one does, over a line that loses, repeats and overtakes, and that may lie about what they hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.postgres import Postgres
from vantage6.api.v1 import delivery_pb2, event_pb2
from vantage6.common import faults
from vantage6.server.domain import tasks
from vantage6.server.domain.bus import LocalBus, Resync
from vantage6.server.domain.caller import NodeCaller
from vantage6.server.domain.dispatch import Dispatcher
from vantage6.server.domain.events import EventHub
from vantage6.server.domain.links import Claim, Link
from vantage6.server.domain.reports import ReportDesk
from vantage6.server.domain.states import FINAL, TASK_FINAL, ResultState, TaskState
from vantage6.server.store.tables import Event, Result, Task

from .databases import sqlite_url
from .world import World, make_world, report

S = ResultState
T = TypeVar("T")
SITES = 2
WINDOW = 3
MEMORY = Path("/dev/shm")
"""A disk's time is not what is tested."""
STEPS = {S.ASSIGNED: S.PULLING, S.PULLING: S.RUNNING}
ENDS = (S.COMPLETED, S.COMPLETED, S.COMPLETED, S.FAILED, S.REFUSED, S.LOST)


@dataclasses.dataclass
class Held:
    assignment: delivery_pb2.Assignment
    state: ResultState = S.ASSIGNED
    reports: list[delivery_pb2.Report] = dataclasses.field(default_factory=list)


class Site:
    """A node as the contract wants it: it writes down first, and says again what was not accepted."""

    def __init__(self, caller: NodeCaller) -> None:
        self.caller = caller
        self.journal: dict[int, Held] = {}
        self.link: Link | None = None
        self.line: list[tuple[Link, delivery_pb2.Report]] = []
        """On its way to the server, also from connections that are gone."""
        self.begun: Counter[tuple[int, int]] = Counter()
        self.believed = True
        """The server knows what it holds: it told the truth, and nothing was lost on this connection."""

    def say(self, held: Held, state: ResultState) -> None:
        held.state = state
        fault = "DISK_FULL" if state is S.FAILED and held.assignment.epoch % 2 else ""
        message = report(held.assignment, state, b"json.1" if state is S.COMPLETED else None, reason=fault)
        held.reports.append(message)
        if self.link is not None:
            self.line.append((self.link, message))

    def hears(self, message: delivery_pb2.ServerMessage) -> None:
        match message.WhichOneof("message"):
            case "assignment":
                self._assigned(message.assignment)
            case "accepted":
                self._accepted(message.accepted)
            case "refused":
                self._drop(message.refused.result_id, message.refused.epoch)
            case "cancel" if message.cancel.reason == "LEASE_LOST":
                self._drop(message.cancel.result_id, message.cancel.epoch)
            case "cancel":
                held = self.journal.get(message.cancel.result_id)
                if held and held.assignment.epoch == message.cancel.epoch and held.state not in FINAL:
                    self.say(held, S.CANCELLED)

    def _assigned(self, assignment: delivery_pb2.Assignment) -> None:
        held = self.journal.get(assignment.result_id)
        if held is not None and held.assignment.epoch >= assignment.epoch:
            return
        self.begun[assignment.result_id, assignment.epoch] += 1
        self.journal[assignment.result_id] = Held(assignment)
        self.say(self.journal[assignment.result_id], S.ASSIGNED)

    def _accepted(self, accepted: delivery_pb2.ReportAccepted) -> None:
        held = self.journal.get(accepted.result_id)
        if held is None or held.assignment.epoch != accepted.epoch:
            return
        held.reports = [said for said in held.reports if said.state != accepted.state]
        if ResultState(accepted.state) in FINAL:
            del self.journal[accepted.result_id]

    def _drop(self, result_id: int, epoch: int) -> None:
        held = self.journal.get(result_id)
        if held is not None and held.assignment.epoch == epoch:
            del self.journal[result_id]

    @property
    def at_work(self) -> list[Held]:
        return [held for held in self.journal.values() if held.state not in FINAL]


class Life:
    """One life of the server on the database that it shares with all others."""

    def __init__(self, world: World) -> None:
        bus = LocalBus()
        dispatcher = Dispatcher(world.database, bus, lambda result, task, node_id: "token")
        desk = ReportDesk(world.database, bus)
        hub = EventHub(world.database, bus)
        world.database.on_doubt = lambda: bus.publish(Resync())
        self.world = dataclasses.replace(world, bus=bus, hub=hub, dispatcher=dispatcher, desk=desk)
        self._loops = [asyncio.ensure_future(dispatcher.run()), asyncio.ensure_future(desk.run())]

    async def end(self) -> None:
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)


class Delivery(RuleBasedStateMachine):
    @initialize()
    def build(self) -> None:
        structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
        self.folder = Path(tempfile.mkdtemp(dir=MEMORY if MEMORY.is_dir() else None))
        self.loop = asyncio.new_event_loop()
        self.stack = contextlib.AsyncExitStack()
        self.world = self.do(self.stack.enter_async_context(make_world(self.url(), sites=SITES)))
        self.sites = [Site(node) for node in self.world.nodes]
        self.life = self.do(self._live())
        self.task_ids: list[int] = []
        self.sent: Counter[tuple[int, int]] = Counter()
        self.seen: dict[int, tuple[int, ResultState]] = {}

    def url(self) -> str:
        return sqlite_url(self.folder)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def _live(self) -> Life:
        return Life(self.world)

    # --- what people do

    @rule(
        everybody=st.booleans(), retries=st.integers(0, 2), quorum=st.booleans(), priority=st.integers(0, 1),
        fail_fast=st.booleans(),
    )  # fmt: skip
    @precondition(lambda self: len(self.task_ids) < 6)
    def create(self, *, everybody: bool, retries: int, quorum: bool, priority: int, fail_fast: bool) -> None:
        targets = self.world.organizations if everybody else self.world.organizations[:1]
        fields: dict[str, object] = {"retries": retries, "priority": priority, "fail_fast": fail_fast}
        if quorum:
            fields["min_results"] = 1
        task = self.do(self.life.world.create_task(*targets, **fields))
        self.task_ids.append(task.id)

    @rule(data=st.data())
    @precondition(lambda self: self.task_ids)
    def cancel(self, data: st.DataObject) -> None:
        self.do(self._cancel(data.draw(st.sampled_from(self.task_ids))))

    async def _cancel(self, task_id: int) -> None:
        world = self.life.world
        async with world.database.write() as store:
            await tasks.cancel(store, world.bus, world.user, task_id)

    # --- what happens to lines and processes

    @rule(
        number=st.integers(0, SITES - 1),
        lie=st.sampled_from(["", "", "", "wiped", "silent", "newer", "older", "foreign"]),
    )
    def connect(self, number: int, lie: str) -> None:
        """Also over an older connection that is still there; what is under way on that one may arrive yet."""
        site = self.sites[number]
        if lie == "wiped":
            site.journal.clear()
        held = {id_: Claim(one.assignment.epoch, one.state) for id_, one in site.journal.items()}
        if lie == "silent":
            held = {}
        if lie in ("newer", "older"):
            step = 1 if lie == "newer" else -1
            held = {id_: Claim(claim.epoch + step, claim.state) for id_, claim in held.items()}
        if lie == "foreign":
            held |= {id_: Claim(1, S.RUNNING) for id_ in range(1, 5) if id_ not in held}
        self.do(self._connect(site, held))
        site.believed = lie != "foreign"

    async def _connect(self, site: Site, held: dict[int, Claim]) -> None:
        site.link = await self.life.world.connect(site.caller, window=WINDOW, held=held)
        site.line += [(site.link, message) for one in site.journal.values() for message in one.reports]
        await self.life.world.settled()

    @rule(number=st.integers(0, SITES - 1), noticed=st.booleans())
    def cut(self, number: int, *, noticed: bool) -> None:
        """The line breaks; what the server had sent is lost, and the server may or may not notice."""
        site = self.sites[number]
        if site.link is None:
            return
        link, site.link = site.link, None
        if noticed:
            self.do(self.life.world.dispatcher.disconnect(link))
        self._note_sent(link)

    @rule()
    def restart_the_server(self) -> None:
        """It dies wherever it is; what was on its way to it is lost with it."""
        self.do(self.life.end())
        for site in self.sites:
            if site.link is not None:
                self._note_sent(site.link)
            site.link = None
            site.line.clear()
        self.life = self.do(self._live())

    @rule(number=st.integers(0, SITES - 1), messages=st.integers(1, 4))
    def read(self, number: int, messages: int) -> None:
        """A node takes what the server sent, in order: a stream does not reorder."""
        site = self.sites[number]
        for _ in range(messages):
            if site.link is None or site.link.outgoing.empty():
                return
            message = site.link.outgoing.get_nowait()
            if message is None:
                site.link = None
                return
            self._note(message)
            site.hears(message)

    @rule(
        number=st.integers(0, SITES - 1),
        seed=st.integers(0, 99),
        how=st.sampled_from(["send", "send", "send", "repeat", "lose"]),
    )
    def carry(self, number: int, seed: int, how: str) -> None:
        """A report reaches the server, now or twice or never, before or after those that were said earlier."""
        site = self.sites[number]
        if not site.line:
            return
        link, message = site.line.pop(seed % len(site.line))
        if how == "lose":
            site.believed = site.believed and link is not site.link
        else:
            for _ in range(2 if how == "repeat" else 1):
                self.life.world.desk.submit(link, message)
            self.do(self.life.world.settled())

    @rule(
        number=st.integers(0, SITES - 1),
        point=st.sampled_from(["server.store.before_commit", "server.store.after_commit"]),
    )
    def carry_while_the_store_fails(self, number: int, point: str) -> None:
        """The store answers with an error, having done it or not."""
        with faults.armed(f"{point}=raise:1-2"):
            self.carry(number, 0, "send")

    # --- what runs do

    @rule(number=st.integers(0, SITES - 1), seed=st.integers(0, 99), end=st.sampled_from((None, None, *ENDS)))
    def work(self, number: int, seed: int, end: ResultState | None) -> None:
        site = self.sites[number]
        if not site.at_work:
            return
        held = site.at_work[seed % len(site.at_work)]
        site.say(held, end or STEPS.get(held.state, S.COMPLETED))

    # --- what must hold

    def _note(self, message: delivery_pb2.ServerMessage) -> None:
        if message.WhichOneof("message") == "assignment":
            self.sent[message.assignment.result_id, message.assignment.epoch] += 1

    def _note_sent(self, link: Link) -> None:
        while not link.outgoing.empty():
            if message := link.outgoing.get_nowait():
                self._note(message)

    @invariant()
    def nothing_is_run_twice(self) -> None:
        if not hasattr(self, "sites"):
            return
        assert all(count == 1 for count in self.sent.values()), self.sent
        for site in self.sites:
            assert all(count == 1 for count in site.begun.values()), site.begun
            assert site.link is None or len(site.link.active) <= WINDOW

    @invariant()
    def epochs_grow_and_ends_are_final(self) -> None:
        if not hasattr(self, "sites"):
            return
        results, _, _ = self.do(self._rows())
        for result in results:
            epoch, state = self.seen.get(result.id, (0, S.PENDING))
            assert result.epoch >= epoch
            assert state not in FINAL or result.state == state
            self.seen[result.id] = (result.epoch, ResultState(result.state))

    async def _rows(self) -> tuple[list[Result], list[Task], list[event_pb2.Event]]:
        from sqlalchemy import select  # noqa: PLC0415 - only these tests look at all rows

        async with self.world.database.read() as store:
            results = list(await store.session.scalars(select(Result)))
            task_rows = list(await store.session.scalars(select(Task)))
            events = [event_pb2.Event.FromString(row.body) for row in await store.session.scalars(select(Event))]
        return results, task_rows, events

    def teardown(self) -> None:
        if not hasattr(self, "sites"):
            return
        try:
            self._settle_the_dust()
            self._check_the_books()
        finally:
            self.do(self.life.end())
            self.do(self.stack.aclose())
            self.loop.close()
            shutil.rmtree(self.folder)
            structlog.reset_defaults()

    def _settle_the_dust(self) -> None:
        """Everybody is connected, honest and at work; who was so already does not come anew to set things right."""
        for _ in range(200):
            for number, site in enumerate(self.sites):
                self.read(number, 100)
                if site.link is None or not site.believed:
                    held = {id_: Claim(one.assignment.epoch, one.state) for id_, one in site.journal.items()}
                    self.do(self._connect(site, held))
                    site.believed = True
                for one in site.at_work:
                    site.say(one, STEPS.get(one.state, S.COMPLETED))
                while site.line:
                    self.carry(number, 0, "send")
            quiet = all(not s.journal and s.link is not None and s.link.outgoing.empty() for s in self.sites)
            if quiet and all(result.state in FINAL for result in self.do(self._rows())[0]):
                return
        raise AssertionError(f"never done: {[(r.id, S(r.state).name, r.epoch) for r in self.do(self._rows())[0]]}")

    def _check_the_books(self) -> None:
        self.nothing_is_run_twice()
        self.epochs_grow_and_ends_are_final()
        results, task_rows, events = self.do(self._rows())
        ends = Counter(e.result.result_id for e in events if e.HasField("result") and int(e.result.state) in FINAL)
        assert ends == Counter({result.id: 1 for result in results})
        completions = Counter(e.task.task_id for e in events if e.HasField("task") and e.task.complete)
        assert completions == Counter({task.id: 1 for task in task_rows})
        assert all(TaskState(task.state) in TASK_FINAL for task in task_rows)
        assert all(not site.link.active for site in self.sites if site.link)
        retries = {task.id: task.retries for task in task_rows}
        for one in results:
            given_up = one.state == S.LOST or (one.state, one.reason) == (S.FAILED, "DISK_FULL")
            assert one.losses == min(one.losses, retries[one.task_id]) + given_up


@pytest.mark.row("M27")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestDelivery(Delivery.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(
        max_examples=int(os.environ.get("VANTAGE6_STORIES", "10")), stateful_step_count=40,
        deadline=None, derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # Shrinking stories takes longer than reading them.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )  # fmt: skip


class OnPostgres(Delivery):
    server: ClassVar[Postgres]

    def url(self) -> str:
        return self.server.create()


@pytest.mark.row("M27")
@pytest.mark.postgres
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
class TestDeliveryOnPostgres(OnPostgres.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(TestDelivery.settings, max_examples=int(os.environ.get("VANTAGE6_STORIES", "10")) // 5)

    @pytest.fixture(autouse=True)
    def _server(self, postgres: Postgres) -> None:
        OnPostgres.server = postgres
