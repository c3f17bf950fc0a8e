"""AlgorithmService: what one run's container can ask of its node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import cast

from vantage6.api.v1.algorithm_pb2 import (
    CancelSubtaskRequest,
    CancelSubtaskResponse,
    CheckCardRequest,
    CheckCardResponse,
    CreateSubtaskRequest,
    GetRunRequest,
    ListParticipantsRequest,
    Participant,
    ReportProgressRequest,
    ReportProgressResponse,
    Run,
    StreamResultsRequest,
    Subtask,
    SubtaskResult,
    WriteLogRequest,
    WriteLogResponse,
    WriteOutputRequest,
    WriteOutputResponse,
)
from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceServicer
from vantage6.api.v1.delivery_pb2 import NodeMessage, Progress
from vantage6.api.v1.event_pb2 import ProgressKind
from vantage6.common.brake import Brake
from vantage6.common.card import read_card, sign_card
from vantage6.common.envelope import Purpose
from vantage6.common.errors import FailedPrecondition, InvalidArgument, Unavailable
from vantage6.node.proxy.directory import Directory
from vantage6.node.proxy.guard import Context, answering, streaming
from vantage6.node.proxy.output import Output
from vantage6.node.proxy.results import Results
from vantage6.node.proxy.run import ProxiedRun
from vantage6.node.proxy.subtasks import Subtasks
from vantage6.node.proxy.tokens import RunToken

PATIENCE = 30.0
"""Seconds for which a question waits for the server; creating and waiting go on until the run ends."""
LINE_LENGTH = 4096
PER_SECOND = 20.0


class Servicer(AlgorithmServiceServicer):
    """Translates; the rules are in `subtasks`, `results` and `tokens`."""

    def __init__(self, run: ProxiedRun, token: RunToken) -> None:
        self.token = token
        self._run = run
        self._directory = Directory(run)
        self._subtasks = Subtasks(run, self._directory)
        self._brake = Brake(PER_SECOND)
        self._output = Output(run.output_path, run.output_limit)

    @answering
    async def GetRun(self, request: GetRunRequest, context: Context) -> Run:
        a, sealer = self._run.assignment, self._run.sealer
        card = Run(
            result_id=a.result_id,
            task_id=a.task_id,
            run_id=a.run_id,
            collaboration_id=a.collaboration_id,
            organization_id=sealer.organization_id,
            initiator_id=a.initiator.organization_id,
            node_id=self._run.node_id,
            image=a.image,
            image_digest=self._run.digest,
            databases=a.databases,
            participants=a.participants,
            deadline=a.deadline if a.HasField("deadline") else None,
            vouched=bool(sealer.vouched(a)),
        )
        if sealer.encrypted:
            card.signed = sign_card(card, sealer.keys.current)
        return card

    @answering
    async def CheckCard(self, request: CheckCardRequest, context: Context) -> CheckCardResponse:
        run, sealer = self._run.assignment, self._run.sealer
        if not sealer.encrypted:
            raise FailedPrecondition("the collaboration is not encrypted, so nobody has a key to sign cards with")
        member = (await self._directory.find([request.organization_id]))[request.organization_id]
        by = await asyncio.to_thread(sealer.sender, member.id, member.name, member.public_key)
        card = read_card(request.card, by, member.id)
        if (card.collaboration_id, card.run_id) != (run.collaboration_id, run.run_id):
            raise InvalidArgument("card: it is that of another collaboration or another run_id", field="card")
        return CheckCardResponse(run=card)

    @streaming
    async def ListParticipants(self, request: ListParticipantsRequest, context: Context) -> AsyncIterator[Participant]:
        try:
            async with asyncio.timeout(PATIENCE):
                members = await self._directory.members()
        except TimeoutError as error:
            raise Unavailable("the server cannot be reached") from error
        for member in members:
            yield Participant(id=member.id, name=member.name, domain=member.domain)

    @answering
    async def CreateSubtask(self, request: CreateSubtaskRequest, context: Context) -> Subtask:
        return await self._subtasks.create(request)

    @streaming
    async def StreamResults(self, request: StreamResultsRequest, context: Context) -> AsyncIterator[SubtaskResult]:
        key = await self._subtasks.key_of(request.task_id)
        async for result in Results(self._run, self._directory, request.task_id, key).stream():
            yield result

    @answering
    async def CancelSubtask(self, request: CancelSubtaskRequest, context: Context) -> CancelSubtaskResponse:
        await self._subtasks.cancel(request.task_id)
        return CancelSubtaskResponse()

    @answering
    async def ReportProgress(self, request: ReportProgressRequest, context: Context) -> ReportProgressResponse:
        if self._brake.lets_pass():
            run = self._run.assignment
            text = request.text[:LINE_LENGTH].encode() if self._run.gate.lets_text_out() else b""
            sealed = self._run.sealer.seal_for_initiator(run, text, Purpose.PROGRESS) if text else b""
            progress = Progress(
                result_id=run.result_id,
                epoch=run.epoch,
                kind=ProgressKind.PROGRESS_KIND_ALGORITHM,
                fraction=min(1.0, max(0.0, request.fraction)),
                text=sealed,
            )
            self._run.link.say(NodeMessage(progress=progress))
        return ReportProgressResponse()

    @answering
    async def WriteLog(self, request: WriteLogRequest, context: Context) -> WriteLogResponse:
        self._run.log.say(request.line)
        return WriteLogResponse()

    @answering
    async def WriteOutput(
        self, request_iterator: AsyncIterator[WriteOutputRequest], context: Context
    ) -> WriteOutputResponse:
        # Closed by hand: a stream that is refused half-way would else complain when it is collected.
        async with aclosing(cast("AsyncGenerator[WriteOutputRequest, None]", aiter(request_iterator))) as messages:
            await self._output.write(messages)
        return WriteOutputResponse()
