"""Waiting is pushed: from the first event, across reconnections, with a display where somebody looks."""

from __future__ import annotations

import asyncio
import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.client.fakes import COLLABORATION, NORTH, SOUTH, Fake
from vantage6.api.v1 import event_pb2, result_pb2
from vantage6.client import AsyncClient, ResultState, Task, TaskState
from vantage6.client._display import Display, describe, missing, table
from vantage6.client._view import Site, View
from vantage6.common.envelope import Purpose, seal
from vantage6.common.errors import DeadlineExceeded, NotFound, Unauthenticated, Vantage6Error

PULLING, RUNNING = result_pb2.RESULT_STATE_PULLING, result_pb2.RESULT_STATE_RUNNING


async def create(client: AsyncClient) -> Task:
    return await client.task.create(COLLABORATION, [NORTH, SOUTH], "image", {"method": "go"})


def finish(fake: Fake, task: Task) -> None:
    fake.move(1, RUNNING)
    fake.complete(1, 1)
    fake.complete(2, 2)
    fake.finish(task.id)


async def test_wait_is_pushed(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    waiting = asyncio.create_task(client.wait(task))
    await fake.watching.get()
    finish(fake, task)
    final = await waiting
    assert (final.state, final.complete, final.key) == (TaskState.COMPLETED, True, task.key)
    assert fake.watches == [0]


async def test_a_task_that_is_done_needs_no_watch(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    finish(fake, task)
    assert (await client.wait(task.id)).complete
    assert fake.watches == []


@pytest.mark.row("M27")
async def test_a_broken_watch_goes_on_after_the_last_event(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.break_watch_after = [1, 1]
    waiting = asyncio.create_task(client.wait(task))
    await fake.watching.get()
    fake.move(1, RUNNING)
    await fake.watching.get()
    fake.complete(1, 1)
    await fake.watching.get()
    fake.complete(2, 2)
    fake.finish(task.id)
    assert (await asyncio.wait_for(waiting, 20)).complete
    assert fake.watches == [0, 1, 2]


@pytest.mark.row("M27")
async def test_a_watch_outlives_its_token(client: AsyncClient, fake: Fake) -> None:
    """It ends with the token; the client gets a new one and goes on after the last event, of which none is lost."""
    task = await create(client)
    fake.expire_watch_after = [1, 1]
    waiting = asyncio.create_task(client.wait(task))
    await fake.watching.get()
    fake.move(1, RUNNING)
    await fake.watching.get()
    fake.complete(1, 1)
    await fake.watching.get()
    fake.complete(2, 2)
    fake.finish(task.id)
    assert (await asyncio.wait_for(waiting, 20)).complete
    assert fake.watches == [0, 1, 2]
    assert len(fake.refreshed) == 2


async def test_a_watch_ends_with_its_session(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.expire_watch_after = [1]
    waiting = asyncio.create_task(client.wait(task))
    await fake.watching.get()
    fake.refresh = "another"
    fake.move(1, RUNNING)
    with pytest.raises(Unauthenticated):
        await asyncio.wait_for(waiting, 20)


async def log(client: AsyncClient, task: Task) -> list[str]:
    return [f"{line.organization_id}: {line.text}" async for line in client.logs(task)]


@pytest.mark.row("M38")
async def test_lines_are_opened_shown_once_and_harmless(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    binding = replace(fake.binding(fake.results[1], Purpose.OUTPUT), purpose=Purpose.LOG)

    def sealed(text: bytes) -> bytes:
        return seal(text, to=fake.own_key(), by=fake.sites[NORTH], binding=binding)

    for lines in (b"one\ntwo\n", b"th\x1b[2Jree\n"):
        said = event_pb2.LogEvent(result_id=1, task_id=task.id, organization_id=NORTH, lines=sealed(lines))
        fake.happen(log=said)
    fake.results[1].log_content.inline = sealed(b"two\nth\x1b[2Jree\nfour\n")
    finish(fake, task)
    assert await log(client, task) == [f"{NORTH}: {text}" for text in ("one", "two", "th [2Jree", "four")]


@pytest.mark.attack
@pytest.mark.row("M38")
async def test_lines_of_somebody_else_are_no_lines(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.happen(log=event_pb2.LogEvent(result_id=1, task_id=task.id, organization_id=NORTH, lines=b"all is well\n"))
    finish(fake, task)
    with pytest.raises(Vantage6Error, match=r"envelope|sealed"):
        await log(client, task)


async def test_events_that_are_no_longer_kept(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.break_watch_after = [1]
    waiting = asyncio.create_task(client.wait(task))
    await fake.watching.get()
    fake.forgotten = 1
    fake.move(1, RUNNING)
    await fake.watching.get()
    await fake.watching.get()
    finish(fake, task)
    assert (await asyncio.wait_for(waiting, 20)).complete
    assert fake.watches == [0, 1, 0]


async def test_patience_ends_the_waiting_only(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    with pytest.raises(DeadlineExceeded, match="goes on"):
        await client.wait(task, timeout=0.1)
    assert not fake.tasks[task.id].complete


async def test_an_unknown_task(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await client.wait(99)


def view(*sites: Site) -> View:
    task = Task(7, "mean [age]", "image", TaskState.RUNNING, complete=False, collaboration_id=1)
    return View(task, dict(enumerate(sites, start=1)))


def event(**kind: object) -> event_pb2.Event:
    return event_pb2.Event(**kind)  # type: ignore[arg-type]


def moved(state: int, **more: str) -> event_pb2.Event:
    found = event_pb2.ResultEvent(task_id=7, organization_id=1, state=state, **more)  # type: ignore[arg-type]
    return event(result=found)


def progress(kind: int, fraction: float) -> event_pb2.Event:
    found = event_pb2.ProgressEvent(task_id=7, organization_id=1, progress_kind=kind, fraction=fraction)  # type: ignore[arg-type]
    return event(progress=found)


def test_a_sites_line_from_start_to_end() -> None:
    seen = view(Site("North"))
    site = seen.sites[1]
    story = [
        (None, 0, "waiting"),
        (event(node=event_pb2.NodeEvent(organization_id=1, online=False)), 0, "waiting: its node is offline"),
        (moved(PULLING), 1, "pulling"),
        (progress(event_pb2.PROGRESS_KIND_PULLING, 0.42), 2, "pulling 42%"),
        (moved(RUNNING), 10, "running 0:00"),
        (None, 23, "running 0:13"),
        (progress(event_pb2.PROGRESS_KIND_ALGORITHM, 0.5), 75, "running 1:05, 50%"),
        (moved(result_pb2.RESULT_STATE_COMPLETED), 80, "done in 1:10"),
        (moved(result_pb2.RESULT_STATE_PENDING), 90, "waiting"),
        (moved(result_pb2.RESULT_STATE_FAILED, reason="OOM", message="more memory"), 95, "failed: OOM more memory"),
    ]
    for happened, now, line in story:
        if happened is not None:
            seen.apply(happened, now)
        assert describe(site, now) == line


def test_work_on_subtasks_is_shown_below() -> None:
    seen = view(Site("North"))
    seen.names = {1: "North", 2: "South"}
    for task, state in ((8, RUNNING), (8, result_pb2.RESULT_STATE_COMPLETED), (9, RUNNING)):
        seen.apply(event(result=event_pb2.ResultEvent(task_id=task, organization_id=2, state=state)), 10)
    assert seen.sites[1].state is ResultState.PENDING
    console = Console(file=io.StringIO(), width=80)
    console.print(table(seen, lambda: 12.0))
    assert "↳ South  running 0:02, 1 done" in console.file.getvalue()  # type: ignore[attr-defined]


async def test_what_a_run_says_is_opened_if_it_is_its_own(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    north = await client.organization.get(NORTH)
    binding = replace(fake.binding(fake.results[1], Purpose.OUTPUT), purpose=Purpose.PROGRESS)
    text = seal(b"round\x1b 3", to=fake.own_key(), by=fake.sites[NORTH], binding=binding)
    said = event_pb2.ProgressEvent(task_id=task.id, organization_id=NORTH, fraction=0.5, text=text)
    assert await client._waiting._text(said, north, task) == "round  3"
    for other in (b"plain", text[:-1] + bytes([text[-1] ^ 1])):
        said.text = other
        assert await client._waiting._text(said, north, task) == ""


def test_a_terminal_shows_every_site() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    with Display(view(Site("North [x]"), Site("South", online=False)), shown=True, console=console):
        pass
    text = console.file.getvalue()  # type: ignore[attr-defined]
    for each in ("task 7 mean [age]", "North [x]", "waiting: its node is offline"):
        assert each in text


@pytest.mark.parametrize(("shown", "terminal"), [(True, False), (False, True)])
def test_nothing_is_shown_where_nobody_looks(shown: bool, terminal: bool) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    with Display(view(Site("North")), shown=shown, console=console):
        pass
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def test_colours_in_a_log_are_no_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """CI services set this, and keep every frame that would be drawn."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    with Display(view(Site("North")), shown=True) as display:
        assert not display.shown
    assert capsys.readouterr().err == ""


def test_who_is_missing_is_named() -> None:
    seen = view(Site("North"), Site("South"), Site("East [x]", online=False))
    assert missing(seen) == ""
    seen.apply(moved(result_pb2.RESULT_STATE_FAILED), 1)
    assert missing(seen) == "1 of 3 done; missing: South, East [x]"
    assert "East \\[x]" in str(table(seen).caption)
    many = view(*(Site(f"site {each}") for each in range(1, 9)))
    many.apply(moved(result_pb2.RESULT_STATE_COMPLETED), 1)
    assert missing(many).endswith("site 6 and 2 more")


def test_a_lost_connection_is_told() -> None:
    seen = view(Site("North"))
    seen.connected = False
    assert "cannot be reached" in str(table(seen).caption)
