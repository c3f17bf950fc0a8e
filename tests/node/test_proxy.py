"""What a container can ask of its node: subtasks sealed for each site, results opened, nothing without its token."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.node.fake_runtime import FakeRuntime, echo, forever
from tests.node.fake_server import CONTAINER_TOKEN, PATIENCE, result
from tests.node.site import IMAGE, NODE, OTHER, RESEARCHER, Container, SiteUnderTest
from vantage6.api.v1.algorithm_pb2 import (
    CancelSubtaskRequest,
    CreateSubtaskRequest,
    GetRunRequest,
    ListParticipantsRequest,
    ReportProgressRequest,
    StreamResultsRequest,
    SubtaskInput,
    WriteLogRequest,
    WriteOutputRequest,
)
from vantage6.api.v1.event_pb2 import Event
from vantage6.api.v1.organization_pb2 import Organization
from vantage6.api.v1.result_pb2 import Result
from vantage6.api.v1.task_pb2 import Task
from vantage6.common.envelope import Binding, Purpose, looks_sealed, open_sealed, seal
from vantage6.common.errors import (
    AlreadyExists,
    InvalidArgument,
    KeyChanged,
    NotFound,
    Unauthenticated,
    Vantage6Error,
    from_rpc_error,
)
from vantage6.common.keys import KeyPair
from vantage6.node import states
from vantage6.node.runtimes.base import Exit, RunSpec


@pytest.fixture
async def container(site: SiteUnderTest) -> AsyncIterator[Container]:
    """A central algorithm under way."""
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=site.assignment(databases=[]))
    await site.server.report(states.RUNNING)
    async with Container(site.runtime.started[0].run_dir) as made:
        yield made


async def failure(call: Any) -> Vantage6Error:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


def output_of(site: SiteUnderTest, id_: int, task_id: int, key: str, data: bytes, by: int = OTHER) -> Result:
    binding = Binding(7, key, OTHER, NODE, Purpose.OUTPUT)
    sealed = seal(data, to=site.keys[NODE].public, by=site.keys[by], binding=binding)
    return result(id_, task_id, OTHER, states.COMPLETED, sealed)


async def complete(site: SiteUnderTest, task_id: int) -> None:
    event = Event(collaboration_id=7)
    event.task.task_id, event.task.complete = task_id, True
    await site.server.happen(event)


async def test_run_knows_who_it_is(container: Container) -> None:
    run = await container.stub.GetRun(GetRunRequest(), metadata=container.metadata)
    assert (run.result_id, run.task_id, run.organization_id, run.initiator_id) == (12, 5, NODE, RESEARCHER)
    assert run.image == IMAGE
    assert run.image_digest.startswith("sha256:")
    assert run.participants == 3


async def test_participants(container: Container) -> None:
    call = container.stub.ListParticipants(ListParticipantsRequest(), metadata=container.metadata)
    assert [one.name async for one in call] == ["North", "University", "South"]


@pytest.mark.row("M46")
@pytest.mark.row("M34")
async def test_subtask_is_sealed_for_each_organization_by_one_call(site: SiteUnderTest, container: Container) -> None:
    request = CreateSubtaskRequest(input=b"json.marker", organization_ids=[NODE, OTHER], name="partial")
    subtask = await container.stub.CreateSubtask(request, metadata=container.metadata)
    (sent,) = site.server.task_requests
    assert (sent.image, sent.collaboration_id, sent.key) == (IMAGE, 7, subtask.key)
    assert b"marker" not in sent.SerializeToString()
    for organization in sent.organizations:
        binding = Binding(7, sent.key, NODE, organization.id, Purpose.INPUT)
        opened = open_sealed(
            organization.input, to=site.keys[organization.id], by=site.keys[NODE].public, binding=binding
        )
        assert opened == b"json.marker"
    assert len({organization.input for organization in sent.organizations}) == 2
    # The server saw the container's rights for it, and the container never had the server's token.
    assert site.server.tokens[-1] == CONTAINER_TOKEN
    assert CONTAINER_TOKEN not in container.metadata[0][1]


async def test_large_and_different_inputs(site: SiteUnderTest, container: Container) -> None:
    big = b"bytes." + bytes(200_000)
    inputs = [SubtaskInput(organization_id=NODE, input=big), SubtaskInput(organization_id=OTHER, input=b"json.1")]
    await container.stub.CreateSubtask(CreateSubtaskRequest(inputs=inputs), metadata=container.metadata)
    (sent,) = site.server.task_requests
    payload = bytes(site.server.payloads[sent.organizations[0].input_payload_id][1])
    assert looks_sealed(payload)
    binding = Binding(7, sent.key, NODE, NODE, Purpose.INPUT)
    assert open_sealed(payload, to=site.keys[NODE], by=site.keys[NODE].public, binding=binding) == big
    assert sent.organizations[1].input


@pytest.mark.row("M46")
async def test_many_inputs_that_fit_one_by_one_and_not_together(site: SiteUnderTest, container: Container) -> None:
    """300 organizations, nearly 64 KiB each: one call of the container, one task at the server, one upload for each."""
    key = site.keys[OTHER].public.to_pem()
    for id_ in range(100, 400):
        site.server.organizations[id_] = Organization(id=id_, name=f"site {id_}", public_key=key)
    data = b"bytes." + bytes(63_000)
    request = CreateSubtaskRequest(input=data, organization_ids=list(range(100, 400)))
    subtask = await container.stub.CreateSubtask(request, metadata=container.metadata)
    (sent,) = site.server.task_requests
    assert sent.ByteSize() < 100_000
    assert len({each.input_payload_id for each in sent.organizations}) == 300
    last = sent.organizations[-1]
    binding = Binding(7, subtask.key, NODE, last.id, Purpose.INPUT)
    sealed = bytes(site.server.payloads[last.input_payload_id][1])
    assert open_sealed(sealed, to=site.keys[OTHER], by=site.keys[NODE].public, binding=binding) == data


async def test_same_key_makes_one_subtask(site: SiteUnderTest, container: Container) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=[OTHER], key="mine")
    calls = [container.stub.CreateSubtask(request, metadata=container.metadata) for _ in range(3)]
    assert len({subtask.id for subtask in await asyncio.gather(*calls)}) == 1
    assert len(site.server.task_requests) == 1
    request.input = b"json.2"
    again = container.stub.CreateSubtask(request, metadata=container.metadata)
    assert isinstance(await failure(again), AlreadyExists)


@pytest.mark.row("M52")
async def test_results_stream_in_opened_over_a_broken_line(site: SiteUnderTest, container: Container) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=[OTHER])
    subtask = await container.stub.CreateSubtask(request, metadata=container.metadata)
    site.server.break_watch_after = 1
    call = container.stub.StreamResults(StreamResultsRequest(task_id=subtask.id), metadata=container.metadata)
    await site.server.finish(output_of(site, 21, subtask.id, subtask.key, b"json.first"))
    first = await anext(aiter(call))
    assert (first.organization_id, first.state, first.output) == (OTHER, states.COMPLETED, b"json.first")
    await site.server.finish(result(22, subtask.id, RESEARCHER, states.FAILED))
    await complete(site, subtask.id)
    rest = [each async for each in call]
    assert [(each.result_id, each.state) for each in rest] == [(22, states.FAILED)]
    assert [watch.after_id for watch in site.server.watches] == [0, 1]


@pytest.mark.attack
@pytest.mark.parametrize("how", ["forged", "plain", "moved"])
async def test_result_that_is_not_its_senders(site: SiteUnderTest, container: Container, how: str) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=[OTHER])
    subtask = await container.stub.CreateSubtask(request, metadata=container.metadata)
    forged: dict[str, Callable[[], Result]] = {
        "forged": lambda: output_of(site, 21, subtask.id, subtask.key, b"json.666", by=RESEARCHER),
        "plain": lambda: result(21, subtask.id, OTHER, states.COMPLETED, b"json.666"),
        "moved": lambda: output_of(site, 21, subtask.id, "another-task", b"json.666"),
    }
    await site.server.finish(forged[how]())
    await complete(site, subtask.id)
    call = container.stub.StreamResults(StreamResultsRequest(task_id=subtask.id), metadata=container.metadata)
    (only,) = [each async for each in call]
    assert only.state == states.FAILED
    assert only.reason in ("ENVELOPE_BROKEN", "NOT_SEALED")
    assert not only.output


@pytest.mark.attack
async def test_changed_key_stops_the_whole_subtask(site: SiteUnderTest, container: Container) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=[OTHER])
    await container.stub.CreateSubtask(request, metadata=container.metadata)
    site.server.organizations[OTHER].public_key = KeyPair.generate().public.to_pem()
    await site.stop()
    await site.online()
    async with asyncio.timeout(PATIENCE):
        while True:
            error = await failure(container.stub.CreateSubtask(request, metadata=container.metadata))
            if error.status is not grpc.StatusCode.UNAVAILABLE:
                break
            await asyncio.sleep(0.05)  # The proxy comes back when the run is taken up.
    assert isinstance(error, KeyChanged)
    assert len(site.server.task_requests) == 1


@pytest.mark.attack
@pytest.mark.parametrize("organizations", [[99], list(range(1, 10_001)), [], [OTHER, OTHER]])
async def test_subtask_outside_the_collaboration(
    site: SiteUnderTest, container: Container, organizations: list[int]
) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=organizations)
    error = await failure(container.stub.CreateSubtask(request, metadata=container.metadata))
    assert isinstance(error, InvalidArgument)
    assert not site.server.task_requests


@pytest.mark.attack
async def test_nothing_without_the_token(site: SiteUnderTest, container: Container) -> None:
    wrong: tuple[tuple[tuple[str, str], ...], ...] = (
        (),
        (("authorization", "Bearer wrong"),),
        (("authorization", f"Bearer {CONTAINER_TOKEN}"),),
        (*container.metadata, ("authorization", "Bearer wrong")),
    )
    stub = container.stub
    for metadata in wrong:
        calls = [
            stub.GetRun(GetRunRequest(), metadata=metadata),
            stub.ListParticipants(ListParticipantsRequest(), metadata=metadata).read(),
            stub.CreateSubtask(CreateSubtaskRequest(), metadata=metadata),
            stub.StreamResults(StreamResultsRequest(), metadata=metadata).read(),
            stub.CancelSubtask(CancelSubtaskRequest(), metadata=metadata),
            stub.ReportProgress(ReportProgressRequest(), metadata=metadata),
            stub.WriteLog(WriteLogRequest(), metadata=metadata),
            stub.WriteOutput(iter([WriteOutputRequest()]), metadata=metadata),
        ]
        for call in calls:
            assert isinstance(await failure(call), Unauthenticated)
    assert not site.server.task_requests


@pytest.mark.attack
async def test_task_of_somebody_else(site: SiteUnderTest, container: Container) -> None:
    site.server.tasks[77] = Task(id=77, key="theirs", parent_id=4)
    for id_ in (77, 78):
        call = container.stub.StreamResults(StreamResultsRequest(task_id=id_), metadata=container.metadata)
        assert isinstance(await failure(call.read()), NotFound)
        cancel = container.stub.CancelSubtask(CancelSubtaskRequest(task_id=id_), metadata=container.metadata)
        assert isinstance(await failure(cancel), NotFound)
    assert not site.server.cancelled_tasks


async def test_cancel_of_a_subtask(site: SiteUnderTest, container: Container) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=[OTHER])
    subtask = await container.stub.CreateSubtask(request, metadata=container.metadata)
    await container.stub.CancelSubtask(CancelSubtaskRequest(task_id=subtask.id), metadata=container.metadata)
    assert site.server.cancelled_tasks == [subtask.id]


async def test_progress_reaches_the_server_sealed_and_is_braked(site: SiteUnderTest, container: Container) -> None:
    for _ in range(100):
        request = ReportProgressRequest(fraction=0.5, text="marker")
        await container.stub.ReportProgress(request, metadata=container.metadata)
    await container.stub.WriteLog(WriteLogRequest(line="hello"), metadata=container.metadata)
    async with asyncio.timeout(PATIENCE):
        while not (seen := [each.progress for each in site.server.messages if each.progress.text]):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert seen[0].fraction == 0.5
    assert b"marker" not in seen[0].text
    assert len(seen) < 50
    assert not [each for each in site.server.messages if each.WhichOneof("message") == "log"]


async def test_socket_is_gone_with_the_run(site: SiteUnderTest) -> None:
    folders: list[Path] = []

    async def algorithm(spec: RunSpec) -> Exit:
        folders.append(spec.run_dir)
        return await echo(spec)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    await site.server.report(states.COMPLETED)
    async with asyncio.timeout(PATIENCE):
        while folders[0].exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
