"""Keeps the stream to the server: hello, assignments in, reports out, and again after every loss.

Reports are read from the journal, never from memory: what the journal holds and this connection has not yet carried is
written, so a report that was not accepted goes out again with the next connection, in the order in which it happened.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Protocol, TypeAlias

import grpc
import structlog

from vantage6.api.v1.delivery_pb2 import (
    Assignment,
    Cancel,
    Heartbeat,
    Held,
    Hello,
    NodeMessage,
    ReportAccepted,
    ReportRefused,
    ServerMessage,
    Welcome,
    Window,
)
from vantage6.api.v1.delivery_pb2_grpc import DeliveryServiceStub
from vantage6.common.contract import VERSION as CONTRACT_VERSION
from vantage6.common.contract import check_version
from vantage6.common.errors import (
    ContractVersionUnknown,
    EncryptionRequired,
    FailedPrecondition,
    InvalidArgument,
    KeyMismatch,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Vantage6Error,
    from_rpc_error,
)
from vantage6.node.journal import Journal
from vantage6.node.retry import Backoff
from vantage6.node.session import Session

log = structlog.get_logger(__name__)

DEFAULT_HEARTBEAT = 5.0
QUICKEST_HEARTBEAT, SLOWEST_HEARTBEAT = 0.05, 300.0
MISSED = 3
"""Heartbeats that may stay out before the peer counts as dead."""
_STABLE = 5.0
"""Seconds after which a connection counts as a success and the back-off begins anew."""
_LOOSE = 1000
"""Messages that may be lost (progress, log lines) kept for the writer; older ones give way."""

Call: TypeAlias = "grpc.aio.StreamStreamCall[NodeMessage, ServerMessage]"


class SupersededByOther(FailedPrecondition):
    """Another process connected as this node; fighting for the place would disturb both."""


_HOPELESS = (InvalidArgument, FailedPrecondition, Unauthenticated, PermissionDenied)
"""What trying again cannot mend in a connection that never was; once it was, the server may change its mind."""


class Handler(Protocol):
    """What happens with that which the server says. Called one after another, in the order of the stream."""

    async def held(self) -> Iterable[Held]: ...
    async def welcomed(self, welcome: Welcome) -> None: ...
    async def assigned(self, assignment: Assignment) -> None: ...
    async def accepted(self, accepted: ReportAccepted) -> None: ...
    async def refused(self, refused: ReportRefused) -> None: ...
    async def cancelled(self, cancel: Cancel) -> None: ...


class Link:
    """One node's connection for as long as the node lives."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        session: Session,
        journal: Journal,
        *,
        instance_id: str,
        versions: Mapping[str, str],
        window: int,
        backoff: Backoff | None = None,
    ) -> None:
        self._channel = channel
        self._session = session
        self._journal = journal
        self._instance_id = instance_id
        self._versions = versions
        self._window = window
        self._backoff = backoff or Backoff()
        self._loose: deque[NodeMessage] = deque(maxlen=_LOOSE)
        self._wake = asyncio.Event()
        self._reported = False
        self._attempts = 0
        self._ever_welcome = False
        self._draining = False
        self.online = asyncio.Event()
        self.on_change: Callable[[Welcome | None], None] = lambda _welcome: None
        """Called when the node is truly online, and with None when it is not any more."""

    def reports_wait(self) -> None:
        """Tells the writer that the journal holds something new."""
        self._reported = True
        self._wake.set()

    def say(self, message: NodeMessage) -> None:
        """Says something that may be lost; nothing is kept while there is no connection."""
        if self.online.is_set():
            self._loose.append(message)
            self._wake.set()

    def drain(self) -> None:
        """Takes no new assignments from now on."""
        self._draining = True
        self.say(NodeMessage(window=Window(size=0)))

    async def run(self, handler: Handler) -> None:
        """Connects, and again after every loss, for ever; returns only by an error that trying again cannot mend."""
        while True:
            begun = time.monotonic()
            try:
                await self._connect(handler)
                log.info("link_closed", why="the server closed the stream")
            except (SupersededByOther, ContractVersionUnknown, KeyMismatch, EncryptionRequired):
                raise
            except Vantage6Error as error:
                if isinstance(error, Unauthenticated):
                    self._session.forget()
                if not self._ever_welcome and isinstance(error, _HOPELESS):
                    raise
                log.warning("link_lost", reason=error.reason, message=error.message)
            except Exception:  # it is logged
                # A full disk or a defect: the node stays, and the server says again what was not acknowledged.
                log.exception("link_failed")
            finally:
                self.online.clear()
                self._loose.clear()
                self.on_change(None)
            if time.monotonic() - begun > _STABLE:
                self._backoff.reset()
            delay = self._backoff.next()
            log.info("link_retry", seconds=round(delay, 2))
            await asyncio.sleep(delay)

    async def _connect(self, handler: Handler) -> None:
        await self._session.ensure(self._channel)
        call: Call = DeliveryServiceStub(self._channel).Connect()
        try:
            await call.write(NodeMessage(hello=await self._hello(handler)))
            welcome = await self._read_welcome(call)
            check_version(welcome.contract_version, who="server")
            await handler.welcomed(welcome)
            self._ever_welcome = True
            self.online.set()
            self.on_change(welcome)
            self.reports_wait()
            beat = _beat_of(welcome)
            await _first_of(self._listen(call, handler, beat), self._write(call), self._beat(beat))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            if isinstance(failure, Unauthenticated):
                # Not the API key, which was good just now: the token ran out on the way, or a clock was set.
                self._session.forget()
                raise Unavailable(failure.message) from error
            raise failure from error
        except (asyncio.InvalidStateError, grpc.aio.UsageError) as error:
            # A write on a stream that has ended: its status says why.
            raise await _status_of(call) from error
        finally:
            call.cancel()

    async def _hello(self, handler: Handler) -> Hello:
        self._attempts += 1
        return Hello(
            contract_version=CONTRACT_VERSION,
            instance_id=self._instance_id,
            attempt=self._attempts,
            versions=dict(self._versions),
            window=0 if self._draining else self._window,
            held=await handler.held(),
        )

    async def _read_welcome(self, call: Call) -> Welcome:
        message = await _read(call, DEFAULT_HEARTBEAT * MISSED)
        if message is not None and message.WhichOneof("message") == "superseded":
            raise _superseded(message)
        if message is None or message.WhichOneof("message") != "welcome":
            raise await _status_of(call)
        return message.welcome

    async def _listen(self, call: Call, handler: Handler, beat: float) -> None:
        while (message := await _read(call, beat * MISSED)) is not None:
            match message.WhichOneof("message"):
                case "assignment":
                    await _whole(handler.assigned(message.assignment))
                case "accepted":
                    await _whole(handler.accepted(message.accepted))
                case "refused":
                    await _whole(handler.refused(message.refused))
                case "cancel":
                    await _whole(handler.cancelled(message.cancel))
                case "token":
                    self._session.renew(message.token)
                case "superseded":
                    raise _superseded(message)
                case "drain":
                    log.info("server_goes_away", message=message.drain.message)
                    return
                case _:
                    pass  # A heartbeat; or something newer than this node, which it may ignore.
        raise await _status_of(call)

    async def _write(self, call: Call) -> None:
        cursor = 0
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._reported:
                self._reported = False
                for pending in await self._journal.reports(after=cursor):
                    await call.write(NodeMessage(report=pending.report))
                    cursor = pending.id
            # However much is said of the runs, and however slow the line is: a report comes next.
            while self._loose and not self._reported:
                await call.write(self._loose.popleft())

    async def _beat(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            self.say(NodeMessage(heartbeat=Heartbeat()))


def _beat_of(welcome: Welcome) -> float:
    """The server's word, as far as a node can live with it: never the whole time, and no number that is none."""
    told = welcome.heartbeat_seconds or DEFAULT_HEARTBEAT
    return min(max(told, QUICKEST_HEARTBEAT), SLOWEST_HEARTBEAT) if math.isfinite(told) else DEFAULT_HEARTBEAT


async def _read(call: Call, seconds: float) -> ServerMessage | None:
    """The next message, or None at the end of the stream."""
    try:
        # Not wait_for: it swallows a cancellation that comes together with a message.
        async with asyncio.timeout(seconds):
            message = await call.read()
    except TimeoutError as error:
        raise Unavailable(f"the server said nothing for {seconds:g} seconds") from error
    return message if isinstance(message, ServerMessage) else None


async def _status_of(call: Call) -> Vantage6Error:
    """Why a stream has ended, as an error."""
    code = await call.code()
    details = str(await call.details() or "")
    if code is grpc.StatusCode.OK:
        return Unavailable("the server closed the stream")
    trailers = await call.trailing_metadata()
    return from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, details))


def _superseded(message: ServerMessage) -> SupersededByOther:
    return SupersededByOther(
        f"another process is connected as this node ({message.superseded.message or 'same API key'}); this one stops. "
        "Look for a second installation with the same API key, or reset the key at the server"
    )


async def _whole(work: Coroutine[None, None, None]) -> None:
    """Does what the server said to the end, also when the line breaks meanwhile: half of it would be a run in the
    journal that nobody does."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    """Runs all until one ends, ends the others, and gives back what the first one raised."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
