"""What an `AlgorithmClient` gives: the identity of the run, the organizations, and their answers as they arrive.

Loads gRPC, which the client does not before it asks for something.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import grpc

from vantage6.algorithm.errors import SubtaskError
from vantage6.api.v1 import algorithm_pb2 as pb
from vantage6.api.v1 import result_pb2
from vantage6.common.chunks import chunked
from vantage6.common.errors import Unavailable, from_rpc_error
from vantage6.common.serialization import deserialize

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub

Metadata = tuple[tuple[str, str], ...]

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


def run_of(card: pb.Run) -> Run:
    """The identity card, as an algorithm reads it."""
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


def cut(chunks: Iterable[bytes]) -> Iterator[pb.WriteOutputRequest]:
    """An output in messages of a size that gRPC takes."""
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
