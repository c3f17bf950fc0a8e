"""A watch lasts no longer than its token and rights; what was printed before it began is there for a while."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractContextManager, aclosing, nullcontext
from dataclasses import dataclass, replace
from typing import Any, cast

import grpc
import pytest

from vantage6.api.v1 import (
    auth_pb2,
    collaboration_pb2,
    delivery_pb2,
    event_pb2,
    organization_pb2,
    task_pb2,
    user_pb2,
)
from vantage6.common.errors import Unauthenticated, Unavailable, Vantage6Error, from_rpc_error
from vantage6.server.domain import events as events_module
from vantage6.server.domain.bus import Happened, LocalBus, Resync
from vantage6.server.domain.caller import Call, NodeCaller, Operation, Resource, Scope, set_current_call
from vantage6.server.domain.events import Topic
from vantage6.server.domain.links import Link, Run
from vantage6.server.domain.running import MAX_TEXT, Runs
from vantage6.server.domain.secrets import Lifetimes
from vantage6.server.domain.states import ResultState
from vantage6.server.domain.watching import LOG_OF_RESULT, RecentLogs, WatchGuard
from vantage6.server.rpc.events import EventServicer
from vantage6.server.store.parties import Program
from vantage6.server.store.tables import Result

from .conftest import Hospitals
from .live import bearer, everything
from .world import World, make_world

pytestmark = [pytest.mark.row("M27")]

PATIENCE = 10


@dataclass
class Watching:
    """A stream that is open, and its end."""

    call: Any

    async def ends_with(self) -> Vantage6Error:
        try:
            async with asyncio.timeout(PATIENCE):
                async for _ in self.call:
                    pass
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error)
        raise AssertionError("it ended well")

    async def goes_on(self) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await self.call.read()


@pytest.fixture(params=["grpc", "sse"])
def watch(request: pytest.FixtureRequest, hospitals: Hospitals) -> Any:
    """Opens a stream as somebody, through either door."""

    async def begin(metadata: Any, **wanted: Any) -> Watching:
        stub = hospitals.live.stubs.events
        if request.param == "grpc":
            call = stub.Watch(event_pb2.WatchRequest(**wanted), metadata=metadata)
        else:
            call = stub.StreamEvents(event_pb2.StreamEventsRequest(**wanted), metadata=metadata)
        await call.initial_metadata()
        return Watching(call)

    return begin


async def test_it_ends_with_its_token_and_goes_on_with_a_new_one(hospitals: Hospitals, watch: Any) -> None:
    live = hospitals.live
    live.tokens.lifetimes = Lifetimes(access=dt.timedelta(seconds=1))
    request = auth_pb2.CreateUserTokenRequest(username="researcher_a", password="correct horse battery")
    tokens = await live.stubs.auth.CreateUserToken(request)
    watching = await watch(bearer(tokens.access_token))
    error = await watching.ends_with()
    assert isinstance(error, Unauthenticated)
    assert "expired" in error.message
    renewed = await live.stubs.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token))
    live.tokens.lifetimes = Lifetimes()
    renewed = await live.stubs.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=renewed.refresh_token))
    await (await watch(bearer(renewed.access_token), after_id=1)).goes_on()


@pytest.mark.attack
@pytest.mark.parametrize("how", ["logged out", "user deleted", "password changed", "refresh token used twice"])
async def test_it_ends_with_its_session(hospitals: Hospitals, watch: Any, how: str) -> None:
    live, user = hospitals.live, hospitals.users["researcher_a"]
    request = auth_pb2.CreateUserTokenRequest(username="researcher_a", password="correct horse battery")
    tokens = await live.stubs.auth.CreateUserToken(request)
    metadata, other = bearer(tokens.access_token), await live.login("researcher_b")
    watching, others = await watch(metadata), await watch(other)
    match how:
        case "logged out":
            await live.stubs.auth.RevokeToken(auth_pb2.RevokeTokenRequest(), metadata=metadata)
        case "user deleted":
            await live.stubs.users.DeleteUser(user_pb2.DeleteUserRequest(id=user), metadata=hospitals.root)
        case "password changed":
            change = user_pb2.UpdateUserRequest(id=user, password="another horse battery")
            await live.stubs.users.UpdateUser(change, metadata=hospitals.root)
        case _:
            again = auth_pb2.RefreshTokenRequest(refresh_token=tokens.refresh_token)
            await live.stubs.auth.RefreshToken(again)
            with pytest.raises(grpc.aio.AioRpcError):
                await live.stubs.auth.RefreshToken(again)
    error = await watching.ends_with()
    assert isinstance(error, Unauthenticated)
    assert "session has ended" in error.message
    await others.goes_on()


@pytest.mark.attack
async def test_it_ends_when_the_organization_leaves_the_collaboration(hospitals: Hospitals, watch: Any) -> None:
    live = hospitals.live
    task, _ = await live.add_run(hospitals.shared, hospitals.b)
    mine, theirs = await live.login("researcher_a"), await live.login("researcher_b")
    one, all_of_a = await watch(mine, task_id=task.id), await watch(mine)
    within, of_b = await watch(mine, collaboration_id=hospitals.shared), await watch(theirs)
    request = collaboration_pb2.RemoveCollaborationOrganizationRequest(
        collaboration_id=hospitals.shared, id=hospitals.a
    )
    await live.stubs.collaborations.RemoveCollaborationOrganization(request, metadata=hospitals.root)
    for watching in (one, within):
        assert (await watching.ends_with()).status is grpc.StatusCode.NOT_FOUND
    error = await all_of_a.ends_with()
    assert isinstance(error, Unavailable), "it may watch again, and sees what it may see then"
    assert "rights have changed" in error.message
    await of_b.goes_on()


@pytest.mark.attack
async def test_it_ends_when_the_role_is_taken(hospitals: Hospitals, watch: Any) -> None:
    live = hospitals.live
    watching = await watch(await live.login("researcher_a"), collaboration_id=hospitals.shared)
    change = user_pb2.UpdateUserRequest(id=hospitals.users["researcher_a"])
    change.roles = ""
    await live.stubs.users.UpdateUser(change, metadata=hospitals.root)
    assert (await watching.ends_with()).status is grpc.StatusCode.NOT_FOUND


@pytest.mark.attack
async def test_it_ends_when_the_word_of_changed_rights_was_lost(hospitals: Hospitals, watch: Any) -> None:
    """Another replica changed them, and died before it could say so."""
    live = hospitals.live
    watching, others = await watch(await live.login("researcher_a")), await watch(await live.login("researcher_b"))
    live.database.on_rights = lambda _: None
    request = user_pb2.DeleteUserRequest(id=hospitals.users["researcher_a"])
    await live.stubs.users.DeleteUser(request, metadata=hospitals.root)
    live.bus.publish(Resync())
    assert isinstance(await watching.ends_with(), Unauthenticated)
    await others.goes_on()


async def test_a_silent_watch_says_that_it_is_still_there(
    hospitals: Hospitals, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "QUIET_SECONDS", 0.1)
    watching = await watch(await hospitals.live.login("researcher_a"))
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            message = await watching.call.read()
            if isinstance(message, event_pb2.Event):
                assert message == event_pb2.Event()
            else:
                assert message.data == b": still here\n\n"


# --- lines of runs


def said(result_id: int, lines: bytes, task_id: int = 5) -> event_pb2.Event:
    return event_pb2.Event(log=event_pb2.LogEvent(result_id=result_id, task_id=task_id, lines=lines))


def test_the_last_lines_are_kept_until_the_run_has_ended() -> None:
    recent = RecentLogs()
    for number in range(40):
        recent.note(said(1, b"%04d" % number * 250))
    recent.note(said(2, b"other", task_id=6))
    kept = recent.of(5)
    assert sum(len(event.log.lines) for event in kept) <= LOG_OF_RESULT
    assert kept[-1].log.lines[:4] == b"0039"
    assert [event.log.lines for event in recent.of(6)] == [b"other"]
    recent.note(event_pb2.Event(result=event_pb2.ResultEvent(result_id=1, task_id=5, state=5)))  # type: ignore[arg-type]
    assert recent.of(5) == []
    assert recent.of(6)


def test_all_of_them_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vantage6.server.domain.watching.LOGS_OF_ALL", 1000)
    recent = RecentLogs()
    for number in range(10):
        recent.note(said(number, b"x" * 300, task_id=number))
    assert [number for number in range(10) if recent.of(number)] == [7, 8, 9]


@pytest.fixture
async def world(empty: str) -> AsyncIterator[World]:
    async with make_world(empty) as made:
        yield made


async def test_what_happens_once_the_stream_is_open_is_not_missed(world: World) -> None:
    """Who waits for the first metadata may create the task that it watches for."""
    made: list[int] = []

    class Context:
        async def send_initial_metadata(self, _metadata: object) -> None:
            made.append((await world.create_task()).id)

    class Unguarded:
        def over(self, *_: object) -> AbstractContextManager[None]:
            return nullcontext()

    await world.create_task()
    servicer = EventServicer(world.database, world.hub, cast("WatchGuard", Unguarded()))
    request = event_pb2.WatchRequest(collaboration_id=world.collaboration_id)
    rules = {(Resource.EVENT, Operation.VIEW): Scope.GLOBAL}
    set_current_call(Call(replace(world.user, rules=rules)))
    watched = cast("AsyncGenerator[event_pb2.Event]", servicer.Watch(request, Context()))
    async with asyncio.timeout(PATIENCE), aclosing(watched) as events:
        assert (await anext(events)).task.task_id == made[0]


async def test_who_comes_later_sees_the_last_lines_once(world: World) -> None:
    task = await world.create_task()
    event = said(1, b"line", task_id=task.id)
    world.bus.publish(Happened(event, task.id, 0))
    for after_id, count in ((None, 1), (1, 0)):
        watch = world.hub.open(Topic(task_id=task.id))
        world.bus.publish(Happened(said(1, b"next", task_id=task.id), task.id, 0))
        seen = []
        async for each in world.hub.follow(watch, after_id):
            seen += [each.log.lines] if each.HasField("log") else []
            if b"next" in seen[-1:]:
                break
        world.hub.close(watch)
        assert seen.count(b"line") == count
    silent = world.hub.open(Topic(task_id=task.id, logs=False))
    world.bus.publish(Happened(event, task.id, 0))
    assert silent.recent == []
    assert not silent._news.is_set()
    world.hub.close(silent)


@pytest.mark.attack
@pytest.mark.row("M36", "M38")
async def test_a_node_says_nothing_in_clear_in_an_encrypted_collaboration_and_not_too_much(world: World) -> None:
    heard: list[object] = []
    bus = LocalBus()
    bus.subscribe(heard.append)
    task = await world.create_task()
    link = Link(NodeCaller(1, "north", 1, 1, 1), 10, Program())
    link.active[7] = Run(task, 1)
    runs = Runs(bus)
    runs.log(link, delivery_pb2.LogLines(result_id=7, epoch=1, lines=b"patient 17"))
    runs.progress(link, delivery_pb2.Progress(result_id=7, epoch=1, text=b"patient 17"))
    assert not heard
    link.encrypted = False
    runs.log(link, delivery_pb2.LogLines(result_id=7, epoch=1, lines=b"x" * (MAX_TEXT + 1)))
    runs.log(link, delivery_pb2.LogLines(result_id=8, epoch=1, lines=b"another's"))
    assert not heard
    for _ in range(1000):
        runs.log(link, delivery_pb2.LogLines(result_id=7, epoch=1, lines=b"x" * 16_000))
    assert 10 < len(heard) < 100


# --- who is missing


@pytest.mark.row("M26")
async def test_the_task_says_which_sites_are_missing_and_why_by_name(hospitals: Hospitals) -> None:
    live = hospitals.live
    task, failed = await live.add_run(hospitals.shared, hospitals.a)
    async with live.database.write() as store:
        store.results.add(Result(task_id=task.id, organization_id=hospitals.b, state=ResultState.PENDING))
        row = await store.results.get(failed.id)
        assert row is not None
        row.state, row.reason, row.message = ResultState.REFUSED, "IMAGE_NOT_ALLOWED", "the site allows others only"
    request = task_pb2.ListTaskResultsRequest(task_id=task.id)
    metadata = await live.login("researcher_a")
    found = [result async for result in live.stubs.tasks.ListTaskResults(request, metadata=metadata)]
    names = {organization.id: organization.name for organization in await organizations(hospitals, metadata)}
    assert [(r.organization_name, r.state, r.reason, r.message, r.node_online) for r in found] == [
        (names[hospitals.a], ResultState.REFUSED, "IMAGE_NOT_ALLOWED", "the site allows others only", False),
        (names[hospitals.b], ResultState.PENDING, "", "", False),
    ]


async def organizations(hospitals: Hospitals, metadata: Any) -> list[organization_pb2.Organization]:
    request = organization_pb2.ListOrganizationsRequest()
    return await everything(hospitals.live.stubs.organizations.ListOrganizations(request, metadata=metadata))
