"""Server-sent events of the real server, through the real gateway: pushed, resumable, and only what may be seen."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from .conftest import Site
from .doors import Door

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]


@asynccontextmanager
async def listening(
    site: Site, who: str, last: str = "", **params: Any
) -> AsyncIterator[AsyncIterator[dict[str, str]]]:
    headers = {"accept": "text/event-stream"} | ({"last-event-id": last} if last else {})
    async with site.web(who) as web, web.stream("GET", "/api/event", params=params, headers=headers) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream"
        assert answer.headers["cache-control"] == "no-store"

        async def events() -> AsyncIterator[dict[str, str]]:
            event: dict[str, str] = {}
            async for line in answer.aiter_lines():
                if not line and event:
                    yield event
                    event = {}
                elif line:
                    name, _, value = line.partition(": ")
                    event[name] = value

        yield events()


async def test_events_are_pushed_and_resumed(site: Site) -> None:
    async with site.door("rest") as door:
        task = await door.task("researcher", site.collaboration_id, *site.organizations)
        async with asyncio.timeout(30), listening(site, "researcher", task_id=task["id"]) as events:
            first = await anext(events)
            assert (first["event"], json.loads(first["data"])["task"]["task_id"]) == ("task", task["id"])
            await door.call("Task.CancelTask", "researcher", id=task["id"])
            rest = [event async for event in events]  # Ends with the task.
        assert json.loads(rest[-1]["data"])["task"]["complete"] is True
        numbers = [int(event["id"]) for event in (first, *rest)]
        assert numbers == sorted(set(numbers))
        async with asyncio.timeout(30), listening(site, "researcher", first["id"], task_id=task["id"]) as events:
            assert [event["id"] async for event in events] == [event["id"] for event in rest]


@pytest.mark.attack("CVE-2023-41882")
async def test_events_of_others_are_not_shown(door: Door) -> None:
    alien = await door.organization()
    study = await door.collaboration(alien)
    task = await door.task(await door.person("researcher", alien), study, alien)
    for who in ("researcher", "viewer", await door.node(0)):
        for fields in ({"task_id": task["id"]}, {"collaboration_id": study}):
            answer = await door.call("Event.StreamEvents", who, **fields)
            assert answer.status in {"NOT_FOUND", "PERMISSION_DENIED"}, (who, fields)
