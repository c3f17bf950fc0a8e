"""`vnode clean`: temporary volumes that runs with one run_id shared, and the private network, once unused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, json_option
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.node import states
from vantage6.node.admin.options import of_node, title
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.disk import count
from vantage6.node.journal import Journal
from vantage6.node.workspace import Workspace, shared_name

if TYPE_CHECKING:
    from vantage6.node.admin.leftovers import Leftovers


@click.command()
@of_node
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def clean(context: Context, *, yes: bool, as_json: bool) -> None:
    """Remove the temporary volumes of runs that have ended, and the private network. What is in use stays.

    Example: vnode clean --name north --yes
    """
    from vantage6.node.admin.leftovers import Leftovers  # noqa: PLC0415 - brings the Docker SDK with it

    config = load_context(context)
    leftovers = Leftovers(config)
    try:
        _clean(context, config, leftovers, yes=yes, as_json=as_json)
    finally:
        leftovers.close()


def _clean(context: Context, config: NodeConfig, leftovers: Leftovers, *, yes: bool, as_json: bool) -> None:
    workspace = Workspace(config.task_dir, config.name)
    used = used_volumes(config)
    # Those of a node in a container lie in its own volume; only the engine knows of them here.
    places: dict[str, Path | None] = dict(leftovers.volumes()) if leftovers_are_free(context, config) else {}
    places |= dict.fromkeys(workspace.temporary_folders())
    found = {name: place for name, place in places.items() if name not in used}
    network = "" if used else leftovers.network()
    sizes = {name: count(place or workspace.locate(0, 0, name).temporary).bytes for name, place in found.items()}
    if not as_json:
        what = title(context, config)
        if not found and not network:
            terminal.say(f"{what} has no temporary volume that is not in use")
            return
        rows = [(name, f"{size:,}") for name, size in sizes.items()] + ([(network, "network")] if network else [])
        terminal.table(("Volume", "Bytes"), rows)
    if (found or network) and not yes:
        if as_json:
            raise Stop("say --yes with --json: nobody can be asked", Code.USAGE)
        if not click.confirm(f"Remove these {len(found)} temporary volumes, {sum(sizes.values()):,} bytes?"):
            terminal.say("nothing was removed")
            return
    removed, failed = _remove(workspace, leftovers, found)
    gone = bool(network) and leftovers.remove_network()
    if as_json:
        terminal.write_json({"removed": removed, "failed": failed, "network": network if gone else None})
    for name, why in failed.items():
        terminal.warn(f"volume {name} was not removed: {why}")
    terminal.say(f"{len(removed)} temporary volumes were removed" + (f", and network {network}" if gone else ""))
    if failed:
        raise Stop(f"{len(failed)} could not be removed", Code.FAILED)


def leftovers_are_free(context: Context, config: NodeConfig) -> bool:
    """Whether the node is not at work in a container, where its journal, which says what is in use, is not seen."""
    if config.runtime != "docker":
        return True
    from vantage6.node.admin.container import running  # noqa: PLC0415 - brings the Docker SDK with it

    return running(context, config) is None


def _remove(
    workspace: Workspace, leftovers: Leftovers, found: dict[str, Path | None]
) -> tuple[list[str], dict[str, str]]:
    removed: list[str] = []
    failed: dict[str, str] = {}
    for name, place in found.items():
        try:
            _remove_content(workspace, leftovers, name)
            leftovers.remove(name, place)
            removed.append(name)
        except OSError as error:  # The others are removed all the same.
            failed[name] = str(error.strerror)
        except Vantage6Error as error:
            failed[name] = error.message
    return removed, failed


def _remove_content(workspace: Workspace, leftovers: Leftovers, name: str) -> None:
    try:
        workspace.remove_temporary(name)
    except PermissionError:
        leftovers.open_up(workspace.locate(0, 0, name).temporary)
        workspace.remove_temporary(name)


def used_volumes(config: NodeConfig) -> set[str]:
    """Of runs that the journal knows as unfinished."""
    path = config.data_dir / "journal.sqlite"
    if not path.exists():
        return set()

    async def read() -> set[str]:
        journal = Journal(path)
        try:
            entries = await journal.entries()
        finally:
            await journal.close()
        return {shared_name(entry.assignment) for entry in entries if entry.state not in states.FINAL}

    return asyncio.run(read())
