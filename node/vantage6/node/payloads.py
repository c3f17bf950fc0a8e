"""What is too large for a message: up to the server's payload store and down from it, resumed where the line broke."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TypeVar

import grpc

from vantage6.api.v1.content_pb2 import Content
from vantage6.api.v1.payload_pb2 import (
    CreatePayloadRequest,
    GetPayloadRequest,
    Payload,
    ReadPayloadRequest,
    WritePayloadRequest,
)
from vantage6.api.v1.payload_pb2_grpc import PayloadServiceStub
from vantage6.common.chunks import Bytes
from vantage6.common.errors import DataLoss, FailedPrecondition, OutOfRange, from_rpc_error
from vantage6.common.incoming import Incoming
from vantage6.common.outgoing import Outgoing, Requests, overlapped, pieces_of
from vantage6.common.payload_wire import read_method, write_method
from vantage6.node import metrics
from vantage6.node.retry import PASSING, Backoff, pause, reached
from vantage6.node.session import Session

T = TypeVar("T")
# Few on purpose: the allocator keeps a heap for each thread, and pieces of a MiB would lie about in all of them.
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="payloads")
_DAMAGED = 3
"""How often an upload that arrived damaged is begun again."""


class Payloads:
    """PayloadService as the node uses it. `token` is another token than the node's own: a container's."""

    def __init__(self, channel: grpc.aio.Channel, session: Session) -> None:
        self._channel = channel
        self._session = session
        self._stub = PayloadServiceStub(channel)
        self._write, self._stream = write_method(channel), read_method(channel)

    async def fetch(self, content: Content, into: Incoming, token: str = "") -> None:
        """Passes on the bytes of a content, wherever they are, from the stream to the file."""
        if content.WhichOneof("place") != "payload_id":
            metrics.fetched(len(content.inline))
            await _aside(into.write, content.inline)
            await _aside(into.finish)
            return
        known = await self._get(content.payload_id, token)
        into.expect(int(known.size))
        backoff = Backoff()
        while into.received < known.size:
            try:
                await self._session.ensure(self._channel)
                await self._read(content.payload_id, into, token)
            except PASSING as error:
                await pause(error, backoff)
        if into.received != known.size:
            raise DataLoss(f"payload {content.payload_id!r} has {into.received} bytes, not {int(known.size)}")
        await _aside(into.finish, known.sha256)

    async def _get(self, id_: str, token: str) -> Payload:
        async def get() -> Payload:
            await self._session.ensure(self._channel)
            return await self._stub.GetPayload(GetPayloadRequest(id=id_), metadata=bearer(token))

        return await reached(get)

    async def _read(self, id_: str, into: Incoming, token: str) -> None:
        request = ReadPayloadRequest(id=id_, offset=into.received)
        call = self._stream(request, metadata=bearer(token))
        try:
            await overlapped(aiter(call), partial(_into, into), _aside)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()  # Without it a stream that is given up would go on until it is full.

    async def store(
        self, source: Outgoing, *, collaboration_id: int, key: str, result_id: int = 0, token: str = ""
    ) -> str:
        """Uploads until the server has it all, and says by which id; `key` makes a repetition the same upload."""
        for attempt in range(_DAMAGED):
            request = CreatePayloadRequest(
                collaboration_id=collaboration_id,
                size=source.size,
                result_id=result_id,
                idempotency_key=key if attempt == 0 else f"{key}.{attempt}",
            )
            try:
                return await self._upload(request, source, token)
            except DataLoss:
                continue  # Discarded by the server: once more, as a new upload.
        raise DataLoss(f"the upload arrived damaged {_DAMAGED} times")

    async def _upload(self, request: CreatePayloadRequest, source: Outgoing, token: str) -> str:
        backoff = Backoff()

        async def create() -> Payload:
            await self._session.ensure(self._channel)
            return await self._stub.CreatePayload(request, metadata=bearer(token))

        payload = await reached(create)
        while not payload.complete:
            try:
                payload = await self._append(payload, source, token)
            except (*PASSING, OutOfRange) as error:
                await pause(error, backoff)
                payload = await self._get(payload.id, token)
            except FailedPrecondition:
                payload = await self._get(payload.id, token)
                if not payload.complete:
                    raise
        return payload.id

    async def _append(self, payload: Payload, source: Outgoing, token: str) -> Payload:
        async def requests() -> AsyncGenerator[WritePayloadRequest | Bytes]:
            yield WritePayloadRequest(id=payload.id, offset=payload.received)
            async with aclosing(pieces_of(source, int(payload.received), _aside)) as pieces:
                async for piece in pieces:
                    metrics.stored(len(piece))
                    yield piece
            yield WritePayloadRequest(sha256=await _aside(source.digest))

        try:
            with Requests() as watched:
                return await self._write(watched.watch(requests()), metadata=bearer(token))
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from error


def _into(into: Incoming, piece: Bytes) -> None:
    metrics.fetched(len(piece))
    into.write(piece)


async def _aside(work: Callable[..., T], *arguments: object) -> T:
    """Off the event loop: ciphers, hashes and disks."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    """Metadata for a call with another token than the channel's."""
    return (("authorization", f"Bearer {token}"),) if token else ()
