"""AlgorithmClient against a proxy on a Unix socket: the real stub, the real status codes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from vantage6.algorithm.client import AlgorithmClient
from vantage6.algorithm.container import Container
from vantage6.algorithm.errors import SubtaskError
from vantage6.api.v1 import algorithm_pb2 as pb
from vantage6.api.v1 import result_pb2
from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceServicer, add_AlgorithmServiceServicer_to_server
from vantage6.common.errors import FailedPrecondition, KeyChanged, Unauthenticated, to_metadata
from vantage6.common.serialization import deserialize, serialize

TOKEN = "the run's token"


class Proxy(AlgorithmServiceServicer):
    """Answers as the node's proxy does; `fail` lets the next streams break off."""

    def __init__(self) -> None:
        self.requests: list[object] = []
        self.breaks = 0
        self.error: tuple[grpc.StatusCode, str, object] | None = None

    def _check(self, request: object, context: grpc.ServicerContext) -> None:
        self.requests.append(request)
        if ("authorization", f"Bearer {TOKEN}") not in context.invocation_metadata():
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "another token")

    def GetRun(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        return pb.Run(result_id=7, organization_id=2, databases=["default", "other"], participants=3, signed=b"card")

    def CheckCard(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        return pb.CheckCardResponse(run=pb.Run(organization_id=request.organization_id, vouched=True, participants=5))

    def ListParticipants(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        yield from (pb.Participant(id=each, name=f"site {each}") for each in (1, 2))

    def CreateSubtask(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        if any(each not in (1, 2) for each in request.organization_ids):
            error = KeyChanged("another key than the pinned one")
            context.set_trailing_metadata(to_metadata(error))
            context.abort(error.status, error.message)
        return pb.Subtask(id=50, organization_ids=request.organization_ids)

    def StreamResults(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        state = result_pb2.RESULT_STATE_COMPLETED
        yield pb.SubtaskResult(
            result_id=1, organization_id=1, organization_name="site 1", state=state, output=serialize(11)
        )
        if self.breaks:
            self.breaks -= 1
            context.abort(grpc.StatusCode.UNAVAILABLE, "the server is away")
        lost = result_pb2.RESULT_STATE_REFUSED
        yield pb.SubtaskResult(result_id=2, organization_id=2, state=lost, reason="IMAGE_NOT_ALLOWED", message="no")

    def CancelSubtask(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        return pb.CancelSubtaskResponse()

    def ReportProgress(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too often")

    def WriteLog(self, request, context):  # type: ignore[no-untyped-def]
        self._check(request, context)
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "the run has ended")

    def WriteOutput(self, request_iterator, context):  # type: ignore[no-untyped-def]
        self._check(b"".join(each.chunk for each in request_iterator), context)
        return pb.WriteOutputResponse()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Proxy]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = Proxy()
    add_AlgorithmServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{tmp_path}/proxy.sock")
    server.start()
    yield servicer
    server.stop(None).wait()


@pytest.fixture
def container(proxy: Proxy, tmp_path: Path) -> Iterator[Container]:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    (tmp_path / "output").touch()
    files = {f"{name}_FILE": str(tmp_path / name.lower()) for name in ("TOKEN", "OUTPUT")}
    made = Container({**files, "PROXY_ADDRESS": f"unix:{tmp_path}/proxy.sock"})
    yield made
    made.close()


@pytest.fixture
def client(container: Container) -> AlgorithmClient:
    """Made as in a container: by environment variables."""
    return container.client()


def test_what_was_streamed_is_the_output(container: Container, proxy: Proxy, tmp_path: Path) -> None:
    """What the function returns afterwards, nothing most of the time, is not written over it."""
    container.client().write_output([b"bytes.", b"x" * 3_000_000])
    assert proxy.requests == [b"bytes." + b"x" * 3_000_000]
    container.write_output(b"json.null")
    assert (tmp_path / "output").read_bytes() == b""


def test_what_is_returned_is_written_where_nothing_was_streamed(container: Container, tmp_path: Path) -> None:
    container.client()
    container.write_output(b"json.1")
    assert (tmp_path / "output").read_bytes() == b"json.1"


def test_identity_and_participants(client: AlgorithmClient) -> None:
    assert client.run.result_id == 7
    assert client.run.databases == ("default", "other")
    assert [each.name for each in client.participants()] == ["site 1", "site 2"]
    other = client.check_card(1, client.run.signed)
    assert (other.organization_id, other.participants, other.vouched) == (1, 5, True)


@pytest.mark.row("M46")
def test_a_subtask_is_one_call_however_many_sites(client: AlgorithmClient, proxy: Proxy) -> None:
    subtask = client.subtask("partial", "age", scale=2, min_results=1)
    [request] = [each for each in proxy.requests if isinstance(each, pb.CreateSubtaskRequest)]
    assert deserialize(request.input) == {"method": "partial", "args": ["age"], "kwargs": {"scale": 2}}
    assert list(request.organization_ids) == [1, 2]
    assert list(request.databases) == ["default", "other"]
    assert request.min_results == 1
    first, second = subtask
    assert (first.value, second.state, second.reason) == (11, "refused", "IMAGE_NOT_ALLOWED")
    with pytest.raises(SubtaskError, match="refused IMAGE_NOT_ALLOWED no"):
        _ = second.value
    subtask.cancel()


def test_a_broken_stream_is_taken_up_again(client: AlgorithmClient, proxy: Proxy) -> None:
    proxy.breaks = 2
    assert [each.result_id for each in _streamed(client)] == [1, 2]


def _streamed(client: AlgorithmClient) -> list[pb.SubtaskResult]:
    subtask = client.subtask("partial", organizations=[1, 2])
    found = [each.organization_id for each in subtask]
    assert found == [each.organization_id for each in subtask]  # a second look needs no second stream
    return [pb.SubtaskResult(result_id=each) for each in found]


def test_what_may_be_dropped_does_not_end_the_analysis(client: AlgorithmClient) -> None:
    client.progress(0.5, "half")
    with pytest.raises(FailedPrecondition):
        client.log("after the end")


def test_errors_are_those_of_the_proxy(client: AlgorithmClient) -> None:
    with pytest.raises(KeyChanged, match="pinned"):
        client.subtask("partial", organizations=[9])


@pytest.mark.attack
def test_another_token_is_refused(proxy: Proxy, tmp_path: Path) -> None:
    stranger = AlgorithmClient.connect(f"unix:{tmp_path}/proxy.sock", "a guess")
    with pytest.raises(Unauthenticated):
        stranger.participants()
    stranger.close()
