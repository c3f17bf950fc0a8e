"""How an algorithm asks other organizations: through its node's proxy, the one thing that a container can reach."""

from __future__ import annotations

import datetime as dt
import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

import grpc

from vantage6.algorithm.errors import SubtaskError
from vantage6.api.v1 import algorithm_pb2 as pb
from vantage6.api.v1 import result_pb2
from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub
from vantage6.common.chunks import chunked
from vantage6.common.errors import Unavailable, from_rpc_error
from vantage6.common.serialization import deserialize, serialize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

Request = TypeVar("Request")
Answer = TypeVar("Answer")
Metadata = tuple[tuple[str, str], ...]

# A private socket: no proxies, no keep-alive; the node's proxy sets the limits of sizes.
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)
_ATTEMPTS = 8


@dataclass(frozen=True)
class Run:
    """Who is running, as the node knows it."""

    result_id: int
    task_id: int
    run_id: int
    collaboration_id: int
    organization_id: int
    initiator_id: int
    node_id: int
    image: str
    databases: tuple[str, ...]
    participants: int
    image_digest: str = ""
    vouched: bool = False
    """Whether the task's creator vouches for participants, image and databases; else they are the server's word."""
    signed: bytes = b""
    """All this, signed by the organization: to be handed on and given to `check_card`. Empty without encryption."""


@dataclass(frozen=True)
class Participant:
    """An organization of the collaboration."""

    id: int
    name: str
    domain: str = ""


@dataclass(frozen=True)
class SiteResult:
    """What one organization answered to a subtask."""

    organization_id: int
    organization_name: str
    state: str
    reason: str
    message: str
    output: bytes

    @property
    def completed(self) -> bool:
        return self.state == "completed"

    @cached_property
    def value(self) -> object:
        """What the method returned there; SubtaskError if it did not."""
        if not self.completed:
            raise SubtaskError(f"{self.organization_name}: {self.state} {self.reason} {self.message}".strip())
        return deserialize(self.output)


class AlgorithmClient:
    """Reaches the other organizations of the collaboration. Everything is sealed and opened by the proxy."""

    def __init__(self, stub: AlgorithmServiceStub, token: str = "", channel: grpc.Channel | None = None) -> None:
        self._stub = stub
        self._metadata: Metadata = (("authorization", f"Bearer {token}"),)
        self._channel = channel
        self.wrote_output = False

    @classmethod
    def connect(cls, address: str, token: str) -> AlgorithmClient:
        """Opens the proxy's socket, such as `unix:/run/vantage6/proxy.sock`."""
        channel = grpc.insecure_channel(address, options=_OPTIONS)
        return cls(AlgorithmServiceStub(channel), token, channel)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    @cached_property
    def run(self) -> Run:
        """The identity card of this run."""
        return _run(self._ask(self._stub.GetRun, pb.GetRunRequest()))

    def check_card(self, organization_id: int, card: bytes) -> Run:
        """The card of another organization's run, as that one's `run.signed`; raises if it is not what it should be.

        With it a central part can see that every partial ran with the same image, in a task of as many participants.
        """
        answer = self._ask(self._stub.CheckCard, pb.CheckCardRequest(organization_id=organization_id, card=card))
        return _run(answer.run)

    def participants(self) -> list[Participant]:
        """The organizations of the collaboration."""
        try:
            found = self._stub.ListParticipants(pb.ListParticipantsRequest(), metadata=self._metadata)
            return [Participant(each.id, each.name, each.domain) for each in found]
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def subtask(
        self,
        method: str,
        *args: object,
        organizations: Sequence[int] | None = None,
        inputs: Mapping[int, Mapping[str, object]] | None = None,
        databases: Sequence[str] | None = None,
        name: str = "",
        min_results: int | None = None,
        retries: int | None = None,
        deadline: dt.datetime | dt.timedelta | None = None,
        **kwargs: object,
    ) -> Subtask:
        """Asks organizations (all, unless told which) to run a method of this image, and returns at once.

        `args` and `kwargs` are the method's arguments; `inputs` gives organizations keyword arguments of their own on
        top of them. The databases are those of this run unless given. Iterate over what comes back.
        """
        asked = [each.id for each in self.participants()] if organizations is None else list(organizations)
        request = pb.CreateSubtaskRequest(
            organization_ids=asked,
            databases=self.run.databases if databases is None else databases,
            name=name,  # Not the method: names are not sealed.
            min_results=min_results,
            retries=retries,
        )
        if inputs is None:
            request.input = _input(method, args, kwargs)
        for each in asked if inputs is not None else ():
            own = _input(method, args, {**kwargs, **(inputs or {}).get(each, {})})
            request.inputs.add(organization_id=each, input=own)
        if deadline is not None:
            moment = dt.datetime.now(dt.UTC) + deadline if isinstance(deadline, dt.timedelta) else deadline
            request.deadline.FromDatetime(moment.astimezone(dt.UTC))
        made = self._ask(self._stub.CreateSubtask, request)
        return Subtask(self._stub, self._metadata, made.id, tuple(made.organization_ids or asked))

    def progress(self, fraction: float, text: str = "") -> None:
        """Tells those who wait how far the run is (0 to 1). The text leaves the site: no values from the data."""
        self._hint(self._stub.ReportProgress, pb.ReportProgressRequest(fraction=fraction, text=text))

    def log(self, line: str) -> None:
        """Writes a line to the run's log. It leaves the site: no values from the data."""
        self._hint(self._stub.WriteLog, pb.WriteLogRequest(line=line))

    def write_output(self, chunks: Iterable[bytes]) -> None:
        """Streams the run's output to the node, for what is too large to be returned: it then returns None.

        The bytes are those that the researcher gets; `bytes.` in front of them, or what `serialize` writes, makes them
        a value there. Once for each run.
        """
        try:
            self._stub.WriteOutput(_cut(chunks), metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        self.wrote_output = True

    def _hint(self, method: grpc.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> None:
        """Calls what the contract allows to be dropped: the analysis does not end for want of it."""
        try:
            method(request, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise from_rpc_error(error) from None

    def _ask(self, method: grpc.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> Answer:
        try:
            return method(request, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


class Subtask:
    """A task that this run created. Iterating gives each organization's answer as it arrives."""

    def __init__(self, stub: AlgorithmServiceStub, metadata: Metadata, id: int, organizations: tuple[int, ...]) -> None:  # noqa: A002
        self._stub = stub
        self._metadata = metadata
        self._seen: dict[int, SiteResult] = {}
        self._ended = False
        self.id = id
        self.organizations = organizations

    def __iter__(self) -> Iterator[SiteResult]:
        """Gives what has arrived, then what arrives; ends when all sites are done, or enough of them."""
        yield from list(self._seen.values())
        attempt = 0
        while not self._ended:
            try:
                yield from self._arriving()
                self._ended = True
            except Unavailable:
                attempt += 1
                if attempt == _ATTEMPTS:
                    raise
                time.sleep(min(0.2 * 2**attempt, 10))  # the proxy is away for a moment; its stream begins anew

    def _arriving(self) -> Iterator[SiteResult]:
        request = pb.StreamResultsRequest(task_id=self.id)
        try:
            for each in _joined(self._stub.StreamResults(request, metadata=self._metadata)):
                if each.result_id not in self._seen:
                    self._seen[each.result_id] = result = _site_result(each)
                    yield result
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None

    def wait(self, min_results: int | None = None) -> list[SiteResult]:
        """Waits for so many completed results (all, unless told) and returns them, ordered by organization.

        Who is slower goes on, and comes when the subtask is iterated further, unless it is cancelled. SubtaskError,
        with the reasons, if so many do not deliver.
        """
        need = len(self.organizations) if min_results is None else min_results
        done, failed = list[SiteResult](), list[SiteResult]()
        for result in self:
            (done if result.completed else failed).append(result)
            if len(done) >= need:
                break
        if len(done) < need:
            why = "; ".join(
                f"{each.organization_name}: {each.state} {each.reason} {each.message}".strip() for each in failed
            )
            raise SubtaskError(f"{len(done)} of {need} organizations delivered ({why or 'nobody else was asked'})")
        return sorted(done, key=lambda result: result.organization_id)

    def values(self) -> list[object]:
        """Waits for all and returns what the method returned at each; SubtaskError if one did not deliver."""
        return [result.value for result in self]

    def cancel(self) -> None:
        """Stops what is unfinished."""
        try:
            self._stub.CancelSubtask(pb.CancelSubtaskRequest(task_id=self.id), metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def _run(card: pb.Run) -> Run:
    return Run(
        result_id=card.result_id,
        task_id=card.task_id,
        run_id=card.run_id,
        collaboration_id=card.collaboration_id,
        organization_id=card.organization_id,
        initiator_id=card.initiator_id,
        node_id=card.node_id,
        image=card.image,
        databases=tuple(card.databases),
        participants=card.participants,
        image_digest=card.image_digest,
        vouched=card.vouched,
        signed=card.signed,
    )


def _input(method: str, args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
    return serialize({"method": method, "args": list(args), "kwargs": dict(kwargs)}, "json")


def _cut(chunks: Iterable[bytes]) -> Iterator[pb.WriteOutputRequest]:
    for chunk in chunks:
        for piece in chunked(chunk):
            yield pb.WriteOutputRequest(chunk=piece)


def _joined(messages: Iterable[pb.SubtaskResult]) -> Iterator[pb.SubtaskResult]:
    """Large outputs come in several messages."""
    first, parts = None, list[bytes]()
    for message in messages:
        first = first or message
        if not parts and not message.more:
            yield message
            first = None
            continue
        parts.append(message.output)
        if not message.more:
            first.output = b"".join(parts)
            yield first
            first, parts = None, []


def _site_result(message: pb.SubtaskResult) -> SiteResult:
    return SiteResult(
        organization_id=message.organization_id,
        organization_name=message.organization_name or str(message.organization_id),
        state=result_pb2.ResultState.Name(message.state).removeprefix("RESULT_STATE_").lower(),
        reason=message.reason,
        message=message.message,
        output=message.output,
    )
