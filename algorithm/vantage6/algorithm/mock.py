"""A network in one process: tries an algorithm over several data frames before there is any server, node or image.

    network = MockNetwork("my_package", [frame_a, frame_b, frame_c], faults={3: Fails()})
    result = network.run("central", "age")

Inputs and outputs go through the real serialization and the real dispatch, and through the real disclosure rules where
some are given, so what works here has no surprises with them; a site that raises becomes a failed result, as it would
in a network: with `disclosure` it says as little as a site that keeps its logs, else what such a log would tell.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vantage6.algorithm.client import AlgorithmClient
from vantage6.algorithm.databases import Database, load
from vantage6.algorithm.dispatch import dispatch, read_call
from vantage6.algorithm.errors import AlgorithmError, InputError
from vantage6.algorithm.failures import describe
from vantage6.algorithm.mock_faults import Disclosure, Fails, Fault, Leaving, OutputUnreadable, Refuses, Slow
from vantage6.algorithm.mock_proxy import MockProxy
from vantage6.algorithm.network import Network
from vantage6.algorithm.subtasks import SiteResult, Subtask
from vantage6.api.v1 import algorithm_pb2 as pb
from vantage6.api.v1 import result_pb2
from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.common import exits
from vantage6.common.errors import NotFound, PermissionDenied, Vantage6Error
from vantage6.common.serialization import serialize

if TYPE_CHECKING:
    from types import ModuleType

    import pandas as pd

    from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub

__all__ = ["Fails", "MockNetwork", "Refuses", "Slow"]

Content = Any
"""A data frame, or the path of a file: CSV, Parquet, or SQLite for methods that connect."""


class MockNetwork(Network):
    """Organizations 1, 2, … with a data frame each (or several, by label).

    `faults` says what goes wrong at which organization. `disclosure` are rules of the node's, for all that leaves.
    """

    def __init__(
        self,
        package: str | ModuleType,
        sites: Sequence[Content | Mapping[str, Content]],
        names: Sequence[str] = (),
        *,
        faults: Mapping[int, Fault | Sequence[Fault]] | None = None,
        disclosure: Disclosure | None = None,
    ) -> None:
        self.package = importlib.import_module(package) if isinstance(package, str) else package
        labelled = [site if isinstance(site, Mapping) else {"default": site} for site in sites]
        self.sites: dict[int, Mapping[str, Content]] = dict(enumerate(labelled, start=1))
        self.names = {each: names[each - 1] if names else f"organization {each}" for each in self.sites}
        self.log: list[str] = []
        self.progress: list[tuple[float, str]] = []
        self.kept: list[tuple[int, str]] = []
        """What failed runs told, by organization: a site with `disclosure` has it in its own log only."""
        self.disclosure = disclosure
        self._faults = {each: _several(fault) for each, fault in (faults or {}).items()}
        self._tasks: dict[int, list[pb.SubtaskResult]] = {}
        self._results = 0

    @property
    def organizations(self) -> tuple[int, ...]:
        return tuple(self.sites)

    def results(
        self,
        method: str,
        *args: object,
        organizations: Sequence[int] | None = None,
        databases: Sequence[str] | None = None,
        **kwargs: object,
    ) -> list[SiteResult]:
        data = serialize({"method": method, "args": list(args), "kwargs": kwargs}, "json")
        task = self.create(dict.fromkeys(organizations or self.sites, data), databases)
        return list(Subtask(cast("AlgorithmServiceStub", MockProxy(self, None)), (), task, ()))

    def create(
        self,
        inputs: Mapping[int, bytes],
        databases: Sequence[str] | None = None,
        *,
        min_results: int = 0,
        seconds: float | None = None,
    ) -> int:
        """Runs a task to its end and returns its id. Who takes longer than `seconds` has missed the deadline."""
        task = len(self._tasks) + 1
        self._tasks[task] = []  # the number is taken before subtasks take theirs
        runs = [MockRun(self, task, each, data, len(inputs), databases) for each, data in inputs.items()]
        arriving = sorted(((run.seconds, run.result(seconds)) for run in runs), key=lambda pair: pair[0])
        self._tasks[task] += _enough([result for _, result in arriving], min_results)
        return task

    def finished(self, task: int) -> list[pb.SubtaskResult]:
        if task not in self._tasks:
            raise NotFound(f"there is no task {task}")
        return self._tasks[task]

    def fault(self, organization: int, method: str, kinds: type[Fault] | tuple[type[Fault], ...]) -> Any:
        """What is to go wrong there with this method, None if nothing of these kinds."""
        found = self._faults.get(organization, ())
        return next((each for each in found if isinstance(each, kinds) and each.method in ("", method)), None)

    def number(self) -> int:
        self._results += 1
        return self._results


class MockRun:
    """One organization's part of a task."""

    def __init__(
        self,
        network: MockNetwork,
        task: int,
        organization: int,
        data: bytes,
        participants: int,
        databases: Sequence[str] | None,
    ) -> None:
        if organization not in network.sites:
            raise PermissionDenied(f"organization {organization} is not in the collaboration")
        self.network, self.organization, self.participants = network, organization, participants
        self.task, self.number = task, network.number()
        self.labels = tuple(databases if databases is not None else network.sites[organization])
        self.output: bytes | None = None
        self._data = data

    @property
    def method(self) -> str:
        try:
            return read_call(self._data).method
        except InputError:
            return ""

    @property
    def seconds(self) -> float:
        slow = self.network.fault(self.organization, self.method, Slow)
        return slow.seconds if slow else 0.0

    def result(self, deadline: float | None) -> pb.SubtaskResult:
        """How it ends."""
        fault = self.network.fault(self.organization, self.method, (Fails, Refuses))
        if fault is not None:
            refused = isinstance(fault, Refuses)
            return self._ended("REFUSED" if refused else "FAILED", fault.reason, fault.message)
        if deadline is not None and self.seconds > deadline:
            return self._ended("FAILED", "DEADLINE", "it was not done in time")
        unknown = [label for label in self.labels if label not in self.network.sites[self.organization]]
        if unknown:
            return self._ended(
                "REFUSED", "DATABASE_UNKNOWN", f"this node has no database with the label {unknown[0]!r}"
            )
        try:
            returned = dispatch(self.network.package, self._data, self)
        except KeyboardInterrupt:  # Of whoever runs the test.
            raise
        except BaseException as error:  # noqa: BLE001 - a site's failure is an outcome, told as a container tells it
            return self._failed(error)
        return self._done(returned if self.output is None else self.output)

    def _done(self, output: bytes) -> pb.SubtaskResult:
        if not output:
            return self._ended("FAILED", "OUTPUT_MISSING", "the algorithm ended well, but wrote nothing to OUTPUT_FILE")
        try:
            self.let_out("output", output)
        except Vantage6Error as error:
            return self._ended("REFUSED", getattr(error, "rule", error.reason), error.message)
        return self._ended("COMPLETED", output=output)

    def _failed(self, error: BaseException) -> pb.SubtaskResult:
        """As of a container: its exit code, and what it wrote where the site's log is the researcher's, too."""
        text = str(error) if isinstance(error, AlgorithmError) else describe(error)
        code = exits.BAD_INPUT if isinstance(error, InputError) else 1
        if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
            code, text = error.code or 0, f"it ended with exit code {error.code}"
        if code == 0:
            return self._done(self.output or b"")
        self.network.kept.append((self.organization, text))
        return self._ended("FAILED", "ALGORITHM_FAILED", text if self.network.disclosure is None else exits.told(code))

    def let_out(self, what: str, data: bytes) -> None:
        """Shows what leaves to the site's rules, which raise what may not."""
        if self.network.disclosure is not None:
            run = Assignment(result_id=self.number, task_id=self.task, image="mock", databases=self.labels)
            try:
                self.network.disclosure.check(Leaving(run, data, what, self.method))
            except Vantage6Error as error:
                # The node's rules take it for a failure of theirs; to the node it is a refusal of its own.
                raise error.__cause__ if isinstance(error.__cause__, OutputUnreadable) else error from None

    def sources(self, count: int) -> list[MockSource]:
        if len(self.labels) < count:
            raise InputError(f"this method reads {count} databases and the task names {len(self.labels)}")
        held = self.network.sites[self.organization]
        return [MockSource(label, held[label]) for label in self.labels[:count]]

    def client(self) -> AlgorithmClient:
        return AlgorithmClient(cast("AlgorithmServiceStub", MockProxy(self.network, self)))

    def _ended(self, state: str, reason: str = "", message: str = "", output: bytes = b"") -> pb.SubtaskResult:
        return pb.SubtaskResult(
            result_id=self.number,
            organization_id=self.organization,
            organization_name=self.network.names[self.organization],
            state=result_pb2.ResultState.Value(f"RESULT_STATE_{state}"),
            reason=reason,
            message=message,
            output=output,
        )


@dataclass(frozen=True)
class MockSource:
    """A frame, handed over as a copy: no site's function changes what others read."""

    label: str
    content: Content

    def frame(self, library: str) -> Any:
        if isinstance(self.content, (str, Path)):
            return self.database().frame(library)
        if type(self.content).__module__.partition(".")[0] == "polars":
            return self.content.clone() if library == "polars" else self.content.to_pandas()
        frame: pd.DataFrame = self.content
        return frame.copy() if library == "pandas" else load(library).from_pandas(frame)

    def database(self) -> Database:
        if not isinstance(self.content, (str, Path)):
            raise InputError(
                f"{self.label!r} is a data frame here: to connect, give the site the path of an SQLite file"
            )
        return Database(self.label, str(self.content))


def _several(fault: Fault | Sequence[Fault]) -> Sequence[Fault]:
    return fault if isinstance(fault, Sequence) else (fault,)


def _enough(arriving: list[pb.SubtaskResult], min_results: int) -> list[pb.SubtaskResult]:
    """The task is complete with so many completed results; who comes later is not waited for."""
    completed = 0
    for number, result in enumerate(arriving, start=1):
        completed += result.state == result_pb2.RESULT_STATE_COMPLETED
        if min_results and completed == min_results:
            return arriving[:number]
    return arriving
