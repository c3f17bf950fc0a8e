"""`vserver list` and `vserver files`."""

from __future__ import annotations

from typing import Any

import rich_click as click
from sqlalchemy.engine import make_url

from vantage6.common import terminal
from vantage6.common.commands import json_option
from vantage6.common.contexts import Context, Kind, Scope, configurations, every
from vantage6.common.settings import ConfigError
from vantage6.server.admin.options import log_file, of_scope, of_server, seat
from vantage6.server.config import load_context


@click.command("list")
@of_scope
@json_option
def list_servers(scope: str | None, *, as_json: bool) -> None:
    """List the servers of this machine: their environments, and which is online.

    Example: vserver list
    """
    rows: list[dict[str, Any]] = []
    unusable: list[dict[str, str]] = []
    for each in [Scope(scope)] if scope else list(Scope):
        for path in configurations(Kind.SERVER, each):
            try:
                rows.append(_row(every(Kind.SERVER, name=path.stem, scope=each), unusable))
            except ConfigError as error:
                unusable.append({"file": str(path), "environment": "", "why": error.message})
    if as_json:
        terminal.write_json({"servers": rows, "unusable": unusable})
        return
    columns = ("name", "environments", "status", "running", "scope")
    shown = [[", ".join(row[key]) if key == "environments" else row[key] for key in columns] for row in rows]
    terminal.table(("Name", "Environments", "Status", "Runs", "System/User"), shown)
    for bad in unusable:
        terminal.warn(f"cannot be used: {bad['file']} {bad['environment']}\n{bad['why']}")


def _row(contexts: list[Context], unusable: list[dict[str, str]]) -> dict[str, Any]:
    first = contexts[0]
    row: dict[str, Any] = {"name": first.name, "scope": str(first.scope), "environments": [], "status": "offline",
                           "running": "", "process": None}  # fmt: skip
    for context in contexts:
        try:
            config = load_context(context)
        except ConfigError as error:
            unusable.append({"file": str(context.path), "environment": context.environment, "why": error.message})
            continue
        row["environments"].append(context.environment)
        holder = seat(context, config).holder()
        if holder is not None:
            row |= {"status": "online", "running": context.environment, "process": holder.get("pid")}
    return row


@click.command()
@of_server
@json_option
def files(context: Context, *, as_json: bool) -> None:
    """Show where a server has its configuration, log, database and payloads.

    Example: vserver files --name central
    """
    config = load_context(context)
    found = {
        "configuration_file": str(context.path),
        "environment": context.environment,
        "log_file": str(log_file(context, config)),
        "database": make_url(config.database_url).render_as_string(hide_password=True),
        "data_folder": str(config.data_dir),
        "payloads": config.blob_location,
        "token_secret": str(config.secret_file),
    }
    if as_json:
        terminal.write_json(found)
        return
    for name, place in found.items():
        click.echo(f"{name.replace('_', ' '):19}= {terminal.harmless(place)}")
