"""The options that most commands of `vserver` have, and what follows from them."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from vantage6.common.background import Seat
from vantage6.common.commands import Code, Stop, context_options, scope_option
from vantage6.common.contexts import DEFAULT_SCOPE, Context, Kind
from vantage6.server.config import ServerConfig
from vantage6.server.store.migrate import SchemaUnknownError

of_server = context_options(Kind.SERVER, DEFAULT_SCOPE[Kind.SERVER])
of_scope = scope_option(DEFAULT_SCOPE[Kind.SERVER])


def seat(context: Context, config: ServerConfig) -> Seat:
    """The place of the one process with this configuration; replicas with others may share the data folder."""
    name = context.name if context.environment == "application" else f"{context.name}.{context.environment}"
    return Seat(config.data_dir / f"{name}.lock")


def log_file(context: Context, config: ServerConfig) -> Path:
    """Beside the data where the configuration is a file of one's own, else in the log folder."""
    folder = config.data_dir if context.by_file else context.folders().log
    return folder / f"{context.name}.log"


def short(error: Exception) -> str:
    """Of the database: without the statement, its parameters and the URL."""
    return str(getattr(error, "orig", None) or error).splitlines()[0]


def database_failure(error: SQLAlchemyError | OSError) -> tuple[str, Code]:
    """What is said when the database does not let us work, and the exit code."""
    number = getattr(getattr(error, "orig", None), "sqlite_errorcode", 0) & 0xFF
    if number == sqlite3.SQLITE_FULL or getattr(error, "errno", None) in {errno.ENOSPC, errno.EDQUOT}:
        return f"the disk is full: the database cannot be written ({short(error)}); make room, and try again", Code.DISK
    if number in {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM} or isinstance(error, PermissionError):
        return f"the database cannot be written: {short(error)}; give the server's user the right to", Code.PERMISSION
    return f"the database cannot be reached: {short(error)}; check 'uri', and that it is up", Code.UNREACHABLE


@contextmanager
def database_in_words() -> Iterator[None]:
    """What goes wrong with the database inside ends the command with words and an exit code."""
    try:
        yield
    except SchemaUnknownError as error:
        raise Stop(str(error), Code.SCHEMA) from error
    except (SQLAlchemyError, OSError) as error:
        if getattr(error, "filename", None):
            raise  # A file of ours, and not the database: the message names it.
        text, code = database_failure(error)
        raise Stop(text, code) from error


def title(context: Context) -> str:
    """How messages call a server."""
    return f"server {context.name!r} ({context.environment}, {context.scope})"
