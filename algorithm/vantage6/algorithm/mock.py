"""A network in one process: tries an algorithm over several data frames before there is any server, node or image.

    network = MockNetwork("my_package", [frame_a, frame_b, frame_c])
    result = network.run("central", "age")

Inputs and outputs go through the real serialization and the real dispatch, so what works here has no surprises with
either; a site that raises becomes a failed result, as it would in a network.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, cast

from vantage6.algorithm.client import AlgorithmClient, SiteResult, Subtask
from vantage6.algorithm.dispatch import dispatch
from vantage6.algorithm.entrypoint import describe
from vantage6.algorithm.errors import AlgorithmError, InputError
from vantage6.api.v1 import algorithm_pb2 as pb
from vantage6.api.v1 import result_pb2
from vantage6.common.errors import NotFound, PermissionDenied
from vantage6.common.serialization import serialize

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd

    from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub


class MockNetwork:
    """Organizations 1, 2, … with a data frame each (or several, by label)."""

    def __init__(
        self,
        package: str | ModuleType,
        sites: Sequence[pd.DataFrame | Mapping[str, pd.DataFrame]],
        names: Sequence[str] = (),
    ) -> None:
        self.package = importlib.import_module(package) if isinstance(package, str) else package
        labelled = [site if isinstance(site, Mapping) else {"default": site} for site in sites]
        self.sites: dict[int, Mapping[str, pd.DataFrame]] = dict(enumerate(labelled, start=1))
        self.names = {each: names[each - 1] if names else f"organization {each}" for each in self.sites}
        self.log: list[str] = []
        self.progress: list[tuple[float, str]] = []
        self._tasks: dict[int, list[pb.SubtaskResult]] = {}
        self._results = 0

    def run(self, method: str, *args: object, organization: int = 1, **kwargs: object) -> object:
        """Runs a method at one organization and returns its value; SubtaskError if it failed."""
        return self.results(method, *args, organizations=[organization], **kwargs)[0].value

    def results(
        self, method: str, *args: object, organizations: Sequence[int] | None = None, **kwargs: object
    ) -> list[SiteResult]:
        """Runs a method at organizations (all, unless told which)."""
        data = serialize({"method": method, "args": list(args), "kwargs": kwargs}, "json")
        task = self.create(dict.fromkeys(organizations or self.sites, data))
        return list(Subtask(cast("AlgorithmServiceStub", MockStub(self, 0)), (), task, ()))

    def create(self, inputs: Mapping[int, bytes]) -> int:
        """Runs a task to its end and returns its id."""
        task = len(self._tasks) + 1
        self._tasks[task] = []  # the number is taken before subtasks take theirs
        self._tasks[task] += [self._run(organization, data, len(inputs)) for organization, data in inputs.items()]
        return task

    def finished(self, task: int) -> list[pb.SubtaskResult]:
        if task not in self._tasks:
            raise NotFound(f"there is no task {task}")
        return self._tasks[task]

    def _run(self, organization: int, data: bytes, participants: int) -> pb.SubtaskResult:
        if organization not in self.sites:
            raise PermissionDenied(f"organization {organization} is not in the collaboration")
        self._results += 1
        result = pb.SubtaskResult(
            result_id=self._results, organization_id=organization, organization_name=self.names[organization]
        )
        try:
            result.output = dispatch(self.package, data, _Site(self, organization, participants))
            result.state = result_pb2.RESULT_STATE_COMPLETED
        except Exception as error:  # noqa: BLE001 - a site's failure is an outcome, told as a container tells it
            result.state = result_pb2.RESULT_STATE_FAILED
            result.reason = "BAD_INPUT" if isinstance(error, InputError) else "ALGORITHM_FAILED"
            result.message = str(error) if isinstance(error, AlgorithmError) else describe(error)
        return result


class _Site:
    """The surroundings of a function at one organization."""

    def __init__(self, network: MockNetwork, organization: int, participants: int) -> None:
        self._network = network
        self._organization = organization
        self._participants = participants

    def frames(self, count: int) -> list[pd.DataFrame]:
        databases = list(self._network.sites[self._organization].values())
        if len(databases) < count:
            raise InputError(f"this method reads {count} databases and the site has {len(databases)}")
        return [frame.copy() for frame in databases[:count]]

    def client(self) -> AlgorithmClient:
        stub = MockStub(self._network, self._organization, self._participants)
        return AlgorithmClient(cast("AlgorithmServiceStub", stub))


class MockStub:
    """Answers what the node's proxy would: the methods of AlgorithmService that AlgorithmClient calls."""

    def __init__(self, network: MockNetwork, organization: int, participants: int = 1) -> None:
        self._network = network
        self._organization = organization
        self._participants = participants

    def GetRun(self, request: pb.GetRunRequest, *, metadata: object = ()) -> pb.Run:
        labels = self._network.sites[self._organization]
        return pb.Run(
            organization_id=self._organization,
            initiator_id=self._organization,
            collaboration_id=1,
            image="mock",
            databases=list(labels),
            participants=self._participants,
            vouched=True,
        )

    def ListParticipants(
        self, request: pb.ListParticipantsRequest, *, metadata: object = ()
    ) -> Iterator[pb.Participant]:
        for each, name in self._network.names.items():
            yield pb.Participant(id=each, name=name, domain=f"organization{each}.example")

    def CreateSubtask(self, request: pb.CreateSubtaskRequest, *, metadata: object = ()) -> pb.Subtask:
        inputs = {each.organization_id: each.input for each in request.inputs}
        inputs = inputs or dict.fromkeys(request.organization_ids, request.input)
        return pb.Subtask(id=self._network.create(inputs), organization_ids=list(inputs))

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
