"""Tasks, results, payloads and events over gRPC: who may do what, and what bad requests are told."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.api import httpbody_pb2

from vantage6.api.v1 import event_pb2, payload_pb2, result_pb2, task_pb2
from vantage6.common.chunks import INLINE_LIMIT
from vantage6.common.envelope import Binding, Purpose, seal
from vantage6.common.keys import KeyPair
from vantage6.server.domain.states import ResultState
from vantage6.server.store.blobs import PART

from .conftest import Hospitals
from .live import Metadata, bearer, everything, rest
from .test_accounts import refused

KEYS = KeyPair.generate()
Code = grpc.StatusCode


def sealed(data: bytes = b"json.1") -> bytes:
    """Something that the server must take for sealed; it cannot look inside."""
    return seal(data, to=KEYS.public, by=KEYS, binding=Binding(1, "k", 1, 2, Purpose.INPUT))


def request_for(world: Hospitals, *organizations: int, key: str = "k", **fields: Any) -> task_pb2.CreateTaskRequest:
    targets = organizations or (world.a, world.b)
    fields.setdefault("organizations", [task_pb2.TaskOrganization(id=i, input=SEALED) for i in targets])
    fields.setdefault("image", "image")
    fields.setdefault("collaboration_id", world.shared)
    return task_pb2.CreateTaskRequest(key=key, **fields)


SEALED = sealed()


async def create(world: Hospitals, who: Metadata, **fields: Any) -> task_pb2.Task:
    task: task_pb2.Task = await world.live.stubs.tasks.CreateTask(request_for(world, **fields), metadata=who)
    return task


async def container(world: Hospitals, organization_id: int, image: str = "image") -> tuple[Metadata, Any, Any]:
    """A running algorithm of an organization, as the caller that it is for the server."""
    task, result = await world.live.add_run(world.shared, organization_id, state=4, image=image)
    node_id = world.nodes["a" if organization_id == world.a else "b"]
    return bearer(world.live.accounts.issue_container_token(result, task, node_id)), task, result


async def test_a_researcher_creates_reads_and_lists(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    task = await create(hospitals, who, name="n", priority=2, databases=["d"])
    assert (task.initiator_id, task.state, task.run_id, task.complete) == (hospitals.a, 1, 1, False)
    stubs = hospitals.live.stubs
    assert (await stubs.tasks.GetTask(task_pb2.GetTaskRequest(id=task.id), metadata=who)).name == "n"
    results = await everything(
        stubs.tasks.ListTaskResults(
            task_pb2.ListTaskResultsRequest(task_id=task.id, include_content=True), metadata=who
        )
    )
    assert [r.organization_id for r in results] == [hospitals.a, hospitals.b]
    assert results[0].input_content.inline == SEALED
    assert results[0].organization_name == "Hospital A"


@pytest.mark.row("M36")
@pytest.mark.attack("CVE-2024-22193")
@pytest.mark.parametrize("data", [b"json.{}", b"", b"pickle.x", b"\x80\x04N."])
async def test_plain_input_is_refused_in_an_encrypted_collaboration(hospitals: Hospitals, data: bytes) -> None:
    who = await hospitals.live.login("researcher_a")
    targets = [task_pb2.TaskOrganization(id=hospitals.b, input=data)]
    error = await refused(
        hospitals.live.stubs.tasks.CreateTask(request_for(hospitals, organizations=targets), metadata=who)
    )
    assert error.code() is Code.INVALID_ARGUMENT
    assert "must be sealed" in str(error.details())


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"image": ""}, "image"),
        ({"image": "a b"}, "image"),
        ({"image": "x" * 600}, "image"),
        ({"organizations": []}, "organizations"),
        ({"key": ""}, "key"),
        ({"key": "k" * 65}, "key"),
        ({"retries": -1}, "retries"),
        ({"retries": 99}, "retries"),
        ({"min_results": 3}, "min_results"),
        ({"name": "n" * 300}, "name"),
    ],
)
async def test_bad_requests_are_told_the_field(hospitals: Hospitals, fields: dict[str, Any], word: str) -> None:
    who = await hospitals.live.login("researcher_a")
    error = await refused(hospitals.live.stubs.tasks.CreateTask(request_for(hospitals, **fields), metadata=who))
    assert error.code() is Code.INVALID_ARGUMENT
    assert str(error.details()).startswith(word)


@pytest.mark.parametrize(
    ("who", "code"),
    [("viewer_a", Code.PERMISSION_DENIED), ("nobody_a", Code.PERMISSION_DENIED), ("researcher_c", Code.NOT_FOUND),
     ("root", Code.FAILED_PRECONDITION)],
)  # fmt: skip
async def test_who_may_not_create(hospitals: Hospitals, who: str, code: grpc.StatusCode) -> None:
    metadata = await hospitals.live.login(who)
    error = await refused(hospitals.live.stubs.tasks.CreateTask(request_for(hospitals), metadata=metadata))
    assert error.code() is code
    async with hospitals.live.database.read() as store:
        assert await store.tasks.by_key(hospitals.shared, "k") is None  # No ghost, as 1.x left them.


async def test_an_organization_outside_is_named(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    error = await refused(
        hospitals.live.stubs.tasks.CreateTask(request_for(hospitals, hospitals.a, hospitals.c), metadata=who)
    )
    assert str(hospitals.c) in str(error.details())


@pytest.mark.attack("X12")
async def test_x12_a_key_is_good_for_one_request(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    first = await create(hospitals, who)
    assert (await create(hospitals, who)).id == first.id
    for other in (request_for(hospitals, name="another"), request_for(hospitals, hospitals.a)):
        error = await refused(hospitals.live.stubs.tasks.CreateTask(other, metadata=who))
        assert error.code() is Code.ALREADY_EXISTS
    stranger = await hospitals.live.login("researcher_b")
    error = await refused(hospitals.live.stubs.tasks.CreateTask(request_for(hospitals), metadata=stranger))
    assert error.code() is Code.ALREADY_EXISTS


@pytest.mark.attack("X12")
async def test_x12_two_creates_at_once_make_one_task(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    made = await asyncio.gather(*(create(hospitals, who) for _ in range(8)))
    assert len({task.id for task in made}) == 1


async def test_strangers_see_nothing(hospitals: Hospitals) -> None:
    task = await create(hospitals, await hospitals.live.login("researcher_a"))
    stranger = await hospitals.live.login("organization_admin_c")
    stubs = hospitals.live.stubs
    for call in (
        stubs.tasks.GetTask(task_pb2.GetTaskRequest(id=task.id), metadata=stranger),
        stubs.tasks.CancelTask(task_pb2.CancelTaskRequest(id=task.id), metadata=stranger),
        stubs.tasks.DeleteTask(task_pb2.DeleteTaskRequest(id=task.id), metadata=stranger),
        stubs.results.GetResult(result_pb2.GetResultRequest(id=1), metadata=stranger),
    ):
        assert (await refused(call)).code() is Code.NOT_FOUND
    assert await everything(stubs.tasks.ListTasks(task_pb2.ListTasksRequest(), metadata=stranger)) == []
    assert await everything(stubs.results.ListResults(result_pb2.ListResultsRequest(), metadata=stranger)) == []


@pytest.mark.parametrize(
    ("who", "may"),
    [("researcher_a", True), ("researcher_b", False), ("organization_admin_a", True), ("organization_admin_b", False),
     ("collaboration_admin_b", True), ("viewer_a", False), ("root", True)],
)  # fmt: skip
async def test_who_may_cancel(hospitals: Hospitals, who: str, may: bool) -> None:
    task = await create(hospitals, await hospitals.live.login("researcher_a"))
    call = hospitals.live.stubs.tasks.CancelTask(
        task_pb2.CancelTaskRequest(id=task.id), metadata=await hospitals.live.login(who)
    )
    if may:
        assert (await call).state == task_pb2.TASK_STATE_CANCELLED
    else:
        assert (await refused(call)).code() is Code.PERMISSION_DENIED


@pytest.mark.row("M18")
async def test_a_node_sees_what_it_performs(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    mine = await create(hospitals, who, organizations=[task_pb2.TaskOrganization(id=hospitals.b, input=SEALED)])
    await create(hospitals, who, key="2", organizations=[task_pb2.TaskOrganization(id=hospitals.a, input=SEALED)])
    node = await hospitals.live.login_node(hospitals.api_keys["b"])
    stubs = hospitals.live.stubs
    tasks = await everything(stubs.tasks.ListTasks(task_pb2.ListTasksRequest(), metadata=node))
    assert [t.id for t in tasks] == [mine.id]
    filtered = await everything(
        stubs.tasks.ListTasks(task_pb2.ListTasksRequest(node_id=hospitals.nodes["b"]), metadata=who)
    )
    assert [t.id for t in filtered] == [mine.id]
    results = await everything(stubs.results.ListResults(result_pb2.ListResultsRequest(), metadata=node))
    assert {r.organization_id for r in results} == {hospitals.b}


async def test_lists_have_filters_and_pages(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    for number in range(5):
        await create(hospitals, who, key=str(number), name=f"n{number % 2}")
    stubs = hospitals.live.stubs
    call = stubs.tasks.ListTasks(task_pb2.ListTasksRequest(name="n0", page=2, per_page=2, sort="-id"), metadata=who)
    page = await everything(call)
    assert [t.id for t in page] == [1]
    assert dict(await call.initial_metadata())["x-total-count"] == "3"
    still_open = await everything(stubs.tasks.ListTasks(task_pb2.ListTasksRequest(state="open"), metadata=who))
    assert len(still_open) == 5
    error = await refused(everything(stubs.tasks.ListTasks(task_pb2.ListTasksRequest(state="odd"), metadata=who)))
    assert "completed" in str(error.details())


@pytest.mark.row("M16", "M33", "M51")
async def test_rest_shows_links_and_nulls(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    task = await create(hospitals, rest(who))
    assert task.parent.HasField("null_value")
    assert task.children.HasField("null_value")
    assert [item["id"] for item in task.results.list_value] == [1, 2]  # type: ignore[index]
    assert not task.HasField("collaboration_id")
    viewer = rest(await hospitals.live.login("viewer_b"))
    seen = await hospitals.live.stubs.tasks.GetTask(task_pb2.GetTaskRequest(id=task.id), metadata=viewer)
    assert list(seen.link.struct_value["methods"]) == ["GET"]


@pytest.mark.row("M50", "M46")
async def test_a_container_creates_subtasks_of_its_own_run(hospitals: Hospitals) -> None:
    who, parent, _ = await container(hospitals, hospitals.a)
    child = await create(hospitals, who)
    assert (child.parent_id, child.run_id, child.initiator_id) == (parent.id, parent.run_id, hospitals.a)
    listed = await everything(hospitals.live.stubs.tasks.ListTasks(task_pb2.ListTasksRequest(), metadata=who))
    assert {t.id for t in listed} == {parent.id, child.id}


@pytest.mark.attack("X04")
@pytest.mark.parametrize("image", ["evil.example/image", "imag", "image2", "IMAGE", "image:latest"])
async def test_x04_a_container_starts_no_other_image(hospitals: Hospitals, image: str) -> None:
    who, _, _ = await container(hospitals, hospitals.a)
    error = await refused(hospitals.live.stubs.tasks.CreateTask(request_for(hospitals, image=image), metadata=who))
    assert error.code() is Code.PERMISSION_DENIED


@pytest.mark.attack("X04")
async def test_x04_a_container_stays_in_its_collaboration(hospitals: Hospitals) -> None:
    who, _, _ = await container(hospitals, hospitals.a)
    elsewhere = request_for(hospitals, hospitals.c, collaboration_id=hospitals.other)
    assert (await refused(hospitals.live.stubs.tasks.CreateTask(elsewhere, metadata=who))).code() is Code.NOT_FOUND
    outside = request_for(hospitals, hospitals.c)
    error = await refused(hospitals.live.stubs.tasks.CreateTask(outside, metadata=who))
    assert error.code() is Code.INVALID_ARGUMENT
    crowd = [task_pb2.TaskOrganization(id=number) for number in range(1, 10_001)]
    many = request_for(hospitals, organizations=crowd)
    assert (await refused(hospitals.live.stubs.tasks.CreateTask(many, metadata=who))).code() is Code.INVALID_ARGUMENT


@pytest.mark.attack("X03")
async def test_x03_a_container_token_ends_with_its_run(hospitals: Hospitals) -> None:
    who, _, result = await container(hospitals, hospitals.a)
    async with hospitals.live.database.write() as store:
        row = await store.results.get(result.id)
        assert row is not None
        row.state = int(ResultState.COMPLETED)
    error = await refused(hospitals.live.stubs.tasks.CreateTask(request_for(hospitals), metadata=who))
    assert error.code() is Code.UNAUTHENTICATED


@pytest.mark.attack("X03")
async def test_x03_a_container_watches_its_own_subtasks_only(hospitals: Hospitals) -> None:
    other = await create(hospitals, await hospitals.live.login("researcher_a"))
    who, _, _ = await container(hospitals, hospitals.a)
    watch = hospitals.live.stubs.events.Watch
    error = await refused(everything(watch(event_pb2.WatchRequest(task_id=other.id), metadata=who)))
    assert error.code() is Code.NOT_FOUND
    error = await refused(everything(watch(event_pb2.WatchRequest(), metadata=who)))
    assert error.code() is Code.INVALID_ARGUMENT


async def test_a_watch_of_one_task_ends_with_it(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    task = await create(hospitals, who)
    stubs = hospitals.live.stubs
    call = stubs.events.Watch(event_pb2.WatchRequest(task_id=task.id), metadata=who)
    await call.initial_metadata()
    await stubs.tasks.CancelTask(task_pb2.CancelTaskRequest(id=task.id), metadata=who)
    events = await everything(call)
    assert events[-1].task.complete
    states = [e.result.state for e in events if e.HasField("result")]
    assert states == [1, 1, 8, 8]
    after = await everything(
        stubs.events.Watch(event_pb2.WatchRequest(task_id=task.id, after_id=events[1].id), metadata=who)
    )
    assert [e.id for e in after] == [e.id for e in events[2:]]


async def test_events_of_a_collaboration_are_pushed_as_server_sent_events(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("viewer_b")
    stream = hospitals.live.stubs.events.StreamEvents(
        event_pb2.StreamEventsRequest(collaboration_id=hospitals.shared), metadata=who
    )
    await stream.initial_metadata()
    await create(hospitals, await hospitals.live.login("researcher_a"))
    first: httpbody_pb2.HttpBody = await stream.read()
    assert first.content_type == "text/event-stream"
    assert first.data.startswith(b"id: 1\nevent: task\ndata: {")
    stream.cancel()


async def upload(
    world: Hospitals, who: Metadata, data: bytes, *, cut: int | None = None, sha256: bytes | None = None
) -> payload_pb2.Payload:
    """Announces and sends `data`; with `cut`, the stream ends after so many bytes."""
    announced: payload_pb2.Payload = await world.live.stubs.payloads.CreatePayload(
        payload_pb2.CreatePayloadRequest(
            collaboration_id=world.shared, size=len(data), sha256=sha256 or hashlib.sha256(data).digest()
        ),
        metadata=who,
    )
    return await send(world, who, announced.id, 0, data[:cut])


async def send(world: Hospitals, who: Metadata, id_: str, offset: int, data: bytes) -> payload_pb2.Payload:
    async def messages() -> AsyncIterator[payload_pb2.WritePayloadRequest]:
        for start in range(0, len(data), 1 << 20):
            content = httpbody_pb2.HttpBody(data=data[start : start + (1 << 20)])
            yield payload_pb2.WritePayloadRequest(id=id_, offset=offset, content=content)

    answer: payload_pb2.Payload = await world.live.stubs.payloads.WritePayload(messages(), metadata=who)
    return answer


async def test_a_large_input_is_uploaded_resumed_and_read_by_its_node(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    data = sealed(bytes(PART * 2 + 12_345))
    begun = await upload(hospitals, who, data, cut=PART + 1000)
    assert (begun.received, begun.complete) == (PART, False)
    done = await send(hospitals, who, begun.id, PART, data[PART:])
    assert done.complete
    target = task_pb2.TaskOrganization(id=hospitals.b, input_payload_id=done.id)
    task = await create(hospitals, who, organizations=[target])
    node = await hospitals.live.login_node(hospitals.api_keys["b"])
    read = hospitals.live.stubs.payloads.ReadPayload
    pieces = await everything(read(payload_pb2.ReadPayloadRequest(id=done.id, offset=5), metadata=node))
    assert b"".join(piece.data for piece in pieces) == data[5:]
    other = await hospitals.live.login_node(hospitals.api_keys["a"])
    error = await refused(everything(read(payload_pb2.ReadPayloadRequest(id=done.id), metadata=other)))
    assert error.code() is Code.NOT_FOUND
    error = await refused(
        hospitals.live.stubs.payloads.DeletePayload(payload_pb2.DeletePayloadRequest(id=done.id), metadata=who)
    )
    assert error.code() is Code.FAILED_PRECONDITION
    await hospitals.live.stubs.tasks.DeleteTask(task_pb2.DeleteTaskRequest(id=task.id), metadata=who)
    error = await refused(
        hospitals.live.stubs.payloads.GetPayload(payload_pb2.GetPayloadRequest(id=done.id), metadata=who)
    )
    assert error.code() is Code.NOT_FOUND


async def test_a_payload_that_arrived_damaged_is_discarded(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    error = await refused(upload(hospitals, who, sealed(), sha256=bytes(32)))
    assert error.code() is Code.DATA_LOSS


@pytest.mark.row("M36")
@pytest.mark.attack("CVE-2024-22193")
async def test_a_plain_payload_is_refused_in_an_encrypted_collaboration(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    error = await refused(upload(hospitals, who, b"json." + bytes(INLINE_LIMIT)))
    assert error.code() is Code.INVALID_ARGUMENT


@pytest.mark.attack
async def test_payloads_of_others_cannot_be_used_or_written(hospitals: Hospitals) -> None:
    mine = await hospitals.live.login("researcher_a")
    theirs = await hospitals.live.login("researcher_b")
    done = await upload(hospitals, mine, sealed())
    target = task_pb2.TaskOrganization(id=hospitals.b, input_payload_id=done.id)
    request = request_for(hospitals, organizations=[target])
    assert (await refused(hospitals.live.stubs.tasks.CreateTask(request, metadata=theirs))).code() is Code.NOT_FOUND
    assert (await refused(send(hospitals, theirs, done.id, 0, b"x"))).code() is Code.NOT_FOUND


async def test_a_wrong_offset_says_where_to_go_on(hospitals: Hospitals) -> None:
    who = await hospitals.live.login("researcher_a")
    begun = await upload(hospitals, who, sealed(bytes(PART * 2)), cut=10)
    error = await refused(send(hospitals, who, begun.id, 10, b"x"))
    assert error.code() is Code.OUT_OF_RANGE
    assert "0" in str(error.details())
