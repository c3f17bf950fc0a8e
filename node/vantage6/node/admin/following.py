"""`vnode attach`, and where a node's log is."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from vantage6.common import background, terminal
from vantage6.common.commands import Code, Stop
from vantage6.common.contexts import Context
from vantage6.node.admin.container import follow_container, running
from vantage6.node.admin.options import Which, held_by, of_which, title
from vantage6.node.app import seat
from vantage6.node.config import NodeConfig


def log_file(config: NodeConfig) -> Path:
    return config.log_dir / f"{config.name}.log"


@click.command()
@of_which
def attach(which: Which) -> None:
    """Show the log of a node that runs; Ctrl-C leaves the node running.

    Example: vnode attach --name north
    """
    chosen = which.environments()
    found = [each for each in chosen if held_by(*each)]
    if not found:
        context, config = chosen[0]
        raise Stop(f"{title(context, config)} does not run; its last log: {log_file(config)}", Code.NOT_RUNNING)
    follow(*found[0])


def follow(context: Context, config: NodeConfig) -> None:
    try:
        if running(context, config) is not None:
            follow_container(context, config)
            return
        background.follow(log_file(config), lambda line: click.echo(terminal.harmless(line)), seat(config))
    except KeyboardInterrupt:
        terminal.say("left; the node goes on ('vnode stop' ends it)")
