"""The output of a run that streams it through the proxy, into the file that it could also have written itself."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO

from vantage6.api.v1.algorithm_pb2 import WriteOutputRequest
from vantage6.common.errors import AlreadyExists, FailedPrecondition, ResourceExhausted


class Output:
    """Takes one whole stream; what came of a broken one is thrown away."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._taken = False

    async def write(self, messages: AsyncIterator[WriteOutputRequest]) -> None:
        """Returns when the output is complete."""
        if self._taken:
            raise AlreadyExists("this run has written its output, or is doing so")
        self._taken = True
        file = await asyncio.to_thread(_open, self._path)
        try:
            await self._fill(file, messages)
        except BaseException:
            file.truncate(0)
            self._taken = False
            raise
        finally:
            file.close()

    async def _fill(self, file: BinaryIO, messages: AsyncIterator[WriteOutputRequest]) -> None:
        size = 0
        async for message in messages:
            size += len(message.chunk)
            if size > self._limit:
                raise ResourceExhausted(f"the output is larger than the {self._limit} bytes that this site lets out")
            await asyncio.to_thread(file.write, message.chunk)


def _open(path: Path) -> BinaryIO:
    """The file that the workspace made, emptied; the run can write to it but not put another in its place."""
    descriptor = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FailedPrecondition("the place of the output is not a plain file")
    os.ftruncate(descriptor, 0)
    return os.fdopen(descriptor, "wb", buffering=0)
