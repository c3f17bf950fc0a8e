"""The node's proxy of a `MockNetwork`: the methods of AlgorithmService that AlgorithmClient calls."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from vantage6.api.v1 import algorithm_pb2 as pb
from vantage6.common.errors import FailedPrecondition, PermissionDenied, Vantage6Error

if TYPE_CHECKING:
    from vantage6.algorithm.mock import MockNetwork, MockRun


class MockProxy:
    """Answers one run; without a run, whoever asked for the task."""

    def __init__(self, network: MockNetwork, run: MockRun | None) -> None:
        self._network = network
        self._of = run

    @property
    def _run(self) -> MockRun:
        if self._of is None:
            raise FailedPrecondition("this is for runs")
        return self._of

    def GetRun(self, request: pb.GetRunRequest, *, metadata: object = ()) -> pb.Run:
        run = self._run
        return pb.Run(
            result_id=run.number,
            task_id=run.task,
            run_id=1,
            organization_id=run.organization,
            initiator_id=run.organization,
            collaboration_id=1,
            image="mock",
            databases=run.labels,
            participants=run.participants,
            vouched=True,
        )

    def CheckCard(self, request: pb.CheckCardRequest, *, metadata: object = ()) -> pb.CheckCardResponse:
        raise FailedPrecondition("nobody has a key in a mock network, so nothing is signed")

    def ListParticipants(
        self, request: pb.ListParticipantsRequest, *, metadata: object = ()
    ) -> Iterator[pb.Participant]:
        for each, name in self._network.names.items():
            yield pb.Participant(id=each, name=name, domain=f"organization{each}.example")

    def CreateSubtask(self, request: pb.CreateSubtaskRequest, *, metadata: object = ()) -> pb.Subtask:
        inputs = {each.organization_id: each.input for each in request.inputs}
        inputs = inputs or dict.fromkeys(request.organization_ids, request.input)
        for data in dict.fromkeys(inputs.values()):
            self._let_out(data)
        seconds = None
        if request.HasField("deadline"):
            seconds = (request.deadline.ToDatetime(dt.UTC) - dt.datetime.now(dt.UTC)).total_seconds()
        databases = list(request.databases) or None
        task = self._network.create(inputs, databases, min_results=request.min_results, seconds=seconds)
        return pb.Subtask(id=task, organization_ids=list(inputs))

    def _let_out(self, data: bytes) -> None:
        """As a node does: a subtask's input may hold values of the site too."""
        try:
            self._run.let_out("subtask", data)
        except Vantage6Error as error:
            raise PermissionDenied(error.message, rule=getattr(error, "rule", error.reason)) from error

    def StreamResults(self, request: pb.StreamResultsRequest, *, metadata: object = ()) -> Iterator[pb.SubtaskResult]:
        yield from self._network.finished(request.task_id)

    def CancelSubtask(self, request: pb.CancelSubtaskRequest, *, metadata: object = ()) -> pb.CancelSubtaskResponse:
        return pb.CancelSubtaskResponse()

    def ReportProgress(self, request: pb.ReportProgressRequest, *, metadata: object = ()) -> pb.ReportProgressResponse:
        self._network.progress.append((request.fraction, request.text))
        return pb.ReportProgressResponse()

    def WriteLog(self, request: pb.WriteLogRequest, *, metadata: object = ()) -> pb.WriteLogResponse:
        self._network.log.append(request.line)
        return pb.WriteLogResponse()

    def WriteOutput(
        self, requests: Iterable[pb.WriteOutputRequest], *, metadata: object = ()
    ) -> pb.WriteOutputResponse:
        self._run.output = b"".join(request.chunk for request in requests)
        return pb.WriteOutputResponse()
