"""An engine that says what no engine says, and containers with labels that nobody gave: each run has its end (X08)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from vantage6.common.errors import Vantage6Error
from vantage6.node import states
from vantage6.node.runtimes import docker_events
from vantage6.node.runtimes.base import Exit, Handle
from vantage6.node.runtimes.docker import KEY, NODE, SECONDS, TYPE, DockerRuntime, _exit, _remaining
from vantage6.node.runtimes.docker_events import Endings
from vantage6.node.runtimes.docker_images import ImageStore

from .conftest import IMAGE, Kit

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = [pytest.mark.attack("X08")]

NO_EVENTS: list[Any] = [{}, {"time": "noon"}, {"Actor": None}, {"Actor": {}, "time": None}, 5, None, [], {"Actor": "x"}]


class _Stream:
    """Some events, and then the connection stays open."""

    def __init__(self, events: list[Any], over: threading.Event) -> None:
        self._events, self._over, self._response = events, over, self

    def __iter__(self) -> Iterator[Any]:
        yield from self._events
        self._over.wait(20)

    def close(self) -> None:
        self._over.set()


class _Client:
    def __init__(self, *events: Any) -> None:
        self.left, self.over, self.asked = list(events), threading.Event(), 0

    def events(self, **_: Any) -> _Stream:
        self.asked += 1
        return _Stream([self.left.pop(0)], self.over) if self.left else _Stream([], self.over)


async def test_events_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for a container is still told of its end afterwards."""
    monkeypatch.setattr(docker_events, "_AGAIN_AFTER", 0.01)
    client = _Client(*NO_EVENTS, {"Actor": {"ID": "c1"}, "time": 5})
    endings = Endings(cast("DockerClient", client), "label")
    try:
        news, unwatch = endings.watch("c1")
        async with asyncio.timeout(10):
            while client.left:
                news.clear()
                await news.wait()
        unwatch()
        assert endings._thread.is_alive()
    finally:
        client.over.set()
        await asyncio.to_thread(endings.close)


async def test_closing_while_the_first_connection_is_made() -> None:
    """The stream that comes then is not read: nobody would end it, and the node would never stop."""
    asked, go_on = threading.Event(), threading.Event()

    class Slow(_Client):
        def events(self, **more: Any) -> _Stream:
            asked.set()
            go_on.wait(10)
            return super().events(**more)

    client = Slow()
    endings = Endings(cast("DockerClient", client), "label")
    await asyncio.to_thread(asked.wait, 10)
    closing = asyncio.create_task(asyncio.to_thread(endings.close))
    await asyncio.to_thread(endings._closing.wait, 10)
    go_on.set()
    async with asyncio.timeout(4):
        await closing
    assert not endings._thread.is_alive()


def facts(**changed: Any) -> dict[str, Any]:
    state = {"Status": "exited", "ExitCode": 0, "OOMKilled": False, "StartedAt": "2026-01-01T00:00:00Z",
             "FinishedAt": "2026-01-01T00:00:01Z", **changed}  # fmt: skip
    return {"State": state, "Config": {"Labels": {KEY: "k", SECONDS: "5"}}, "Name": "/k"}


@pytest.mark.parametrize(
    "changed",
    [{"ExitCode": None}, {"ExitCode": "x"}, {"StartedAt": "yesterday"}, {"FinishedAt": ""}, {"FinishedAt": None},
     {"StartedAt": "9999-99-99T99:99:99Z"}],
)  # fmt: skip
async def test_an_end_that_makes_no_sense(site: SiteUnderTest, changed: dict[str, Any]) -> None:
    """The run has failed, the container is removed, and the next run is none the worse."""

    class Broken(FakeRuntime):
        async def wait(self, handle: Handle) -> Exit:
            if "-12-" in handle:
                _remaining(facts(**changed))
                return _exit(facts(**changed), b"")
            return await super().wait(handle)

    site.runtime = Broken()
    connection = await site.online()
    connection.send(assignment=site.assignment())
    report = await site.server.report(states.FAILED)
    assert report.reason in {"NODE_ERROR", "RUNTIME_UNAVAILABLE"}
    assert "Traceback" not in report.message
    connection.send(assignment=site.assignment(result_id=13))
    await site.server.report(states.COMPLETED)
    await site.stop()
    assert site.runtime.alive == []


@pytest.mark.parametrize("seconds", ["soon", "nan", "inf", "1e400", ""])
def test_a_time_limit_that_is_none(seconds: str) -> None:
    told = facts()
    told["Config"]["Labels"][SECONDS] = seconds
    if not seconds:
        assert _remaining(told) is None
        return
    with pytest.raises((ValueError, OverflowError)):  # One run's failure, as above.
        _remaining(told)


@pytest.mark.parametrize(
    "line",
    [{}, {"error": None}, {"status": "Downloading", "progressDetail": {"current": "x", "total": 5}},
     {"status": "Downloading", "progressDetail": [1]}, {"status": 5, "progressDetail": {"total": None}},
     {"status": "Downloading", "id": ["a"], "progressDetail": {"current": -5, "total": 1}}],
)  # fmt: skip
def test_news_of_a_pull_that_are_none(line: dict[str, Any]) -> None:
    class Engine:
        images = api = property(lambda self: self)

        def get(self, _name: str) -> Any:
            return type("Image", (), {"attrs": {"RepoDigests": []}, "id": "sha256:own"})()

        def pull(self, *_: Any, **__: Any) -> list[dict[str, Any]]:
            return [line]

    said: list[float] = []
    store = ImageStore(cast("DockerClient", Engine()), "always")
    with suppress(Vantage6Error, ValueError, TypeError):
        assert store.ensure("example/a:1", said.append) == "sha256:own"
    assert all(part <= 1 for part in said)


@pytest.mark.engine
@pytest.mark.row("M54")
@pytest.mark.parametrize("kit", ["docker"], indirect=True)
async def test_labels_that_nobody_gave(kit: Kit, engine_images: DockerClient) -> None:
    """A container of this node without a key is removed at the start; one of somebody else is not touched."""
    ours = {TYPE: "algorithm", NODE: kit.node_name}
    wrong: list[dict[str, str]] = [ours, {**ours, KEY: ""}, {**ours, KEY: "../x", SECONDS: "soon"}]
    foreign: list[dict[str, str]] = [{TYPE: "algorithm"}, {NODE: kit.node_name}, {**ours, NODE: f"{kit.node_name}2"}]
    made = [
        engine_images.containers.run(IMAGE, ["-c", "import time; time.sleep(60)"], labels=labels, detach=True,
                                     network_mode="none")
        for labels in (*wrong, *foreign)
    ]  # fmt: skip
    try:
        running = await kit.start("import time; time.sleep(60)")
        found = await kit.runtime.recover()
        assert len(found) == len(wrong) + 1
        assert running in found.values()
        for handle in found.values():
            await kit.runtime.remove(handle)
        left = {each.id for each in engine_images.containers.list(all=True)}
        assert left.isdisjoint(each.id for each in made[: len(wrong)])
        assert left.issuperset(each.id for each in made[len(wrong) :])
    finally:
        for each in engine_images.containers.list(all=True):
            if each.id in {one.id for one in made}:
                each.remove(force=True)


async def test_one_that_cannot_be_reaped_keeps_no_other(site: SiteUnderTest) -> None:
    class Stubborn(FakeRuntime):
        async def recover(self) -> dict[str, Handle]:
            return {"": Handle("a"), "other-1": Handle("b"), "north-99-1": Handle("c")}

        async def remove(self, handle: Handle) -> None:
            self.stopped.append(handle)
            if handle in {"a", "b"}:
                raise ValueError("what is this?")

    site.runtime = Stubborn()
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    await asyncio.gather(*(task for task in asyncio.all_tasks() if task.get_name() == "take-up"))
    assert {"a", "b", "c"} <= set(site.runtime.stopped)


@pytest.mark.engine
@pytest.mark.parametrize("name", ["../containers/json", "a b", "A", "a@sha256:1", "a:\n", "x/" * 200 + "x", "-", "%00"])
async def test_names_at_a_real_engine(name: str, engine_images: DockerClient) -> None:
    runtime = DockerRuntime("test", pull="never")
    say: Callable[[float], None] = lambda _: None  # noqa: E731
    with pytest.raises(Vantage6Error):
        await runtime.pull(name, say)
    await runtime.close()
