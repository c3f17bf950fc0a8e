"""`vnode list` and `vnode files`: what is configured on this machine, and where it is."""

from __future__ import annotations

from typing import Any

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import json_option
from vantage6.common.contexts import Context, Scope
from vantage6.node.admin.following import log_file
from vantage6.node.admin.options import known, of_node, of_scope, state
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.databases import without_password


@click.command("list")
@of_scope
@json_option
def list_nodes(scope: str | None, *, as_json: bool) -> None:
    """List the nodes of this machine: their environments, which is online, and whose hardening is weakened.

    Example: vnode list
    """
    good, bad = known(Scope(scope) if scope else None)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for context, config in good:
        row = rows.setdefault((context.name, context.scope), _empty(context.name, context.scope))
        row["environments"].append(context.environment)
        if weaker := config.weaknesses():
            row["weakened"][context.environment] = weaker
        doing = state(context, config)
        if doing["state"] != "offline":
            # One environment in a container and others as processes may run at the same time.
            running = ", ".join(filter(None, (row["running"], context.environment)))
            row |= {"status": doing["state"], "running": running, "process": doing.get("pid")}
    unusable = [{"file": str(path), "environment": name, "why": why} for path, name, why in bad]
    if as_json:
        terminal.write_json({"nodes": list(rows.values()), "unusable": unusable})
        return
    shown: list[tuple[str, ...]] = [
        (row["name"], ", ".join(row["environments"]), row["status"], row["running"], row["scope"])
        for row in rows.values()
    ]
    heads: tuple[str, ...] = ("Name", "Environments", "Status", "Runs", "System/User")
    if any(row["weakened"] for row in rows.values()):
        heads = (*heads, "Weakened")
        shown = [(*line, ", ".join(row["weakened"])) for line, row in zip(shown, rows.values(), strict=True)]
    terminal.table(heads, shown)
    for row in rows.values():
        for environment, weaker in row["weakened"].items():
            terminal.warn(f"{row['name']} ({environment}, {row['scope']}) is weakened\n" + "\n".join(weaker))
    for each in unusable:
        terminal.warn(f"cannot be used: {each['file']} {each['environment']}\n{each['why']}")


def _empty(name: str, scope: str) -> dict[str, Any]:
    return {"name": name, "scope": scope, "environments": [], "status": "offline", "running": "", "process": None,
            "weakened": {}}  # fmt: skip


@click.command()
@of_node
@json_option
def files(context: Context, *, as_json: bool) -> None:
    """Show where a node has its configuration, log, data, key and databases.

    Example: vnode files --name north
    """
    config = load_context(context)
    found = locations(context, config)
    if as_json:
        shown = {label: without_password(each.uri) for label, each in config.databases.items()}
        terminal.write_json({**found, "databases": shown})
        return
    for name, path in found.items():
        click.echo(f"{name.replace('_', ' '):20}= {terminal.harmless(path)}")
    click.echo("databases")
    for label, database in config.databases.items():
        click.echo(f" - {label:17}= {terminal.harmless(without_password(database.uri))} ({database.type})")


def locations(context: Context, config: NodeConfig) -> dict[str, str]:
    return {
        "configuration_file": str(context.path),
        "environment": context.environment,
        "log_file": str(log_file(config)),
        "data_folder": str(config.data_dir),
        "task_folder": str(config.task_dir),
        "private_key": str(config.private_key_file),
        "known_organizations": str(config.data_dir / "known_organizations"),
    }
