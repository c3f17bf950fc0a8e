"""The options that most commands of `vserver` have, and what follows from them."""

from __future__ import annotations

from pathlib import Path

from vantage6.common.background import Seat
from vantage6.common.commands import context_options, scope_option
from vantage6.common.contexts import DEFAULT_SCOPE, Context, Kind
from vantage6.server.config import ServerConfig

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


def title(context: Context) -> str:
    """How messages call a server."""
    return f"server {context.name!r} ({context.environment}, {context.scope})"
