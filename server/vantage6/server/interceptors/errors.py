"""Failure → gRPC status, after every handler. No text of an unexpected exception reaches a caller."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import structlog

from vantage6.common.errors import Internal, Unavailable, Unimplemented, Vantage6Error, to_metadata
from vantage6.server.interceptors.wrapping import Enclosing
from vantage6.server.store.locks import is_conflict

log = structlog.get_logger(__name__)


def errors() -> Enclosing:
    return Enclosing(_around, decodes=True)


@asynccontextmanager
async def _around(method: str, context: Any) -> AsyncIterator[None]:
    try:
        yield
    except Vantage6Error as error:
        await context.abort(error.status, error.message, to_metadata(error))
    except (grpc.aio.AbortError, grpc.RpcError):
        raise
    except NotImplementedError:
        # What the generated base class of a servicer raises for a method that is not there yet.
        missing = Unimplemented("This version of the server cannot do this yet.")
        await context.abort(missing.status, missing.message, to_metadata(missing))
    except Exception as error:
        if is_conflict(error):
            # Nothing was changed; clients try again what was unavailable.
            log.warning("call gave way to another one", method=method)
            busy = Unavailable("Another call changed the same at the same time; try again.")
            await context.abort(busy.status, busy.message, to_metadata(busy))
        log.exception("call failed", method=method)
        defect = Internal("The server failed at this; its log knows more.")
        await context.abort(defect.status, defect.message, to_metadata(defect))
