"""How an algorithm asks other organizations: through its node's proxy, the one thing that a container can reach.

gRPC and the contract take longer to load than all the rest of the way to an author's function, so the first call loads
them: many a function ends, by its arguments or too few records, before it asks anybody.
"""
# ruff: noqa: PLC0415 - see above

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Mapping, Sequence

    import grpc

    from vantage6.algorithm.subtasks import Participant, Run, SiteResult, Subtask
    from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub

__all__ = ["AlgorithmClient", "Participant", "Run", "SiteResult", "Subtask"]

Request = TypeVar("Request")
Answer = TypeVar("Answer")

# A private socket: no proxies, no keep-alive; the node's proxy sets the limits of sizes.
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class _Opening:
    """A stub that opens its channel when a method of it is first asked for."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._channel: grpc.Channel | None = None

    def __getattr__(self, method: str) -> object:
        return getattr(self._stub, method)

    @cached_property
    def _stub(self) -> AlgorithmServiceStub:
        import grpc

        from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub

        self._channel = grpc.insecure_channel(self._address, options=_OPTIONS)
        return AlgorithmServiceStub(self._channel)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()


class AlgorithmClient:
    """Reaches the other organizations of the collaboration. Everything is sealed and opened by the proxy."""

    def __init__(
        self, stub: AlgorithmServiceStub, token: str = "", channel: grpc.Channel | _Opening | None = None
    ) -> None:
        self._stub = stub
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._channel = channel
        self.wrote_output = False

    @classmethod
    def connect(cls, address: str, token: str) -> AlgorithmClient:
        """For the proxy's socket, such as `unix:/run/vantage6/proxy.sock`; opened by the first call."""
        opening = _Opening(address)
        return cls(cast("AlgorithmServiceStub", opening), token, opening)

    def close(self) -> None:
        if self._channel is not None:
            self._channel.close()

    @cached_property
    def run(self) -> Run:
        """The identity card of this run."""
        from vantage6.algorithm.subtasks import run_of
        from vantage6.api.v1 import algorithm_pb2 as pb

        return run_of(self._ask(self._stub.GetRun, pb.GetRunRequest()))

    def check_card(self, organization_id: int, card: bytes) -> Run:
        """The card of another organization's run, as that one's `run.signed`; raises if it is not what it should be.

        With it a central part can see that every partial ran with the same image, in a task of as many participants.
        """
        from vantage6.algorithm.subtasks import run_of
        from vantage6.api.v1 import algorithm_pb2 as pb

        answer = self._ask(self._stub.CheckCard, pb.CheckCardRequest(organization_id=organization_id, card=card))
        return run_of(answer.run)

    def participants(self) -> list[Participant]:
        """The organizations of the collaboration."""
        import grpc

        from vantage6.algorithm.subtasks import Participant
        from vantage6.api.v1 import algorithm_pb2 as pb
        from vantage6.common.errors import from_rpc_error

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
        from vantage6.algorithm.subtasks import Subtask
        from vantage6.api.v1 import algorithm_pb2 as pb

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
            request.deadline.FromDatetime(_moment(deadline))
        made = self._ask(self._stub.CreateSubtask, request)
        return Subtask(self._stub, self._metadata, made.id, tuple(made.organization_ids or asked))

    def progress(self, fraction: float, text: str = "") -> None:
        """Tells those who wait how far the run is (0 to 1). The text leaves the site: no values from the data."""
        from vantage6.api.v1 import algorithm_pb2 as pb

        self._hint(self._stub.ReportProgress, pb.ReportProgressRequest(fraction=fraction, text=text))

    def log(self, line: str) -> None:
        """Writes a line to the run's log. It leaves the site: no values from the data."""
        from vantage6.api.v1 import algorithm_pb2 as pb

        self._hint(self._stub.WriteLog, pb.WriteLogRequest(line=line))

    def write_output(self, chunks: Iterable[bytes]) -> None:
        """Streams the run's output to the node, for what is too large to be returned: it then returns None.

        The bytes are those that the researcher gets; `bytes.` in front of them, or what `serialize` writes, makes them
        a value there. Once for each run.
        """
        import grpc

        from vantage6.algorithm.subtasks import cut
        from vantage6.common.errors import from_rpc_error

        try:
            self._stub.WriteOutput(cut(chunks), metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None
        self.wrote_output = True

    def _hint(self, method: grpc.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> None:
        """Calls what the contract allows to be dropped: the analysis does not end for want of it."""
        import grpc

        from vantage6.common.errors import from_rpc_error

        try:
            method(request, metadata=self._metadata)
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise from_rpc_error(error) from None

    def _ask(self, method: grpc.UnaryUnaryMultiCallable[Request, Answer], request: Request) -> Answer:
        import grpc

        from vantage6.common.errors import from_rpc_error

        try:
            return method(request, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from None


def _input(method: str, args: Sequence[object], kwargs: Mapping[str, object]) -> bytes:
    from vantage6.common.serialization import serialize

    return serialize({"method": method, "args": list(args), "kwargs": dict(kwargs)}, "json")


def _moment(deadline: dt.datetime | dt.timedelta) -> dt.datetime:
    import datetime as dt

    moment = dt.datetime.now(dt.UTC) + deadline if isinstance(deadline, dt.timedelta) else deadline
    return moment.astimezone(dt.UTC)


def __getattr__(name: str) -> object:
    if name in __all__:
        from vantage6.algorithm import subtasks

        return getattr(subtasks, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
