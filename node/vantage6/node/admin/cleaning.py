"""`vnode clean`: temporary volumes that runs with one run_id shared, and the private network, once unused."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

import rich_click as click
from click.exceptions import Exit as Leave

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


FOUND = 100
"""The code of `clean --look` where there is something to remove."""


@click.command()
@of_node
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--look", is_flag=True, hidden=True, help="Show what there is and remove nothing; the code says whether.")
@json_option
def clean(context: Context, *, yes: bool, look: bool, as_json: bool) -> None:
    """Remove the temporary volumes of runs that have ended, and the private network. What is in use stays.

    Example: vnode clean --name north --yes
    """
    from vantage6.node.admin.leftovers import Leftovers  # noqa: PLC0415 - brings the Docker SDK with it

    config = load_context(context)
    if config.runtime == "docker":
        _clean_inside(context, config, yes=yes, as_json=as_json)
    leftovers = Leftovers(config)
    try:
        _clean(context, config, leftovers, yes=yes, look=look, as_json=as_json)
    finally:
        leftovers.close()


def _clean_inside(context: Context, config: NodeConfig, *, yes: bool, as_json: bool) -> None:
    """Returns if the node's things are on this machine; otherwise all is done where they are, but for the question."""
    from vantage6.node.admin.inside import do_inside, is_kept_inside  # noqa: PLC0415 - brings the Docker SDK with it

    if not is_kept_inside(config):
        return
    if not yes and not as_json:
        code = do_inside(context, config, ["clean"], "--look", with_engine=True)
        if code != FOUND:
            raise Leave(code)
        if not click.confirm("Remove these temporary volumes?"):
            terminal.say("nothing was removed")
            raise Leave(Code.OK)
    options = [*(["--yes"] if yes or not as_json else []), *(["--json"] if as_json else [])]
    code = do_inside(context, config, ["clean"], *options, with_engine=True)
    if (ctx := click.get_current_context(silent=True)) is not None:
        ctx.meta[terminal.WRITTEN] = True  # What a program is to read was written inside.
    raise Leave(code)


def _clean(context: Context, config: NodeConfig, leftovers: Leftovers, *, yes: bool, look: bool, as_json: bool) -> None:
    workspace = Workspace(config.task_dir, config.name)
    found = _found(context, config, workspace, leftovers)
    network = "" if used_volumes(config) else leftovers.network()
    sizes = {name: count(place).bytes for name, place in found.items()}
    if not as_json:
        what = title(context, config)
        if not found and not network:
            terminal.say(f"{what} has no temporary volume that is not in use")
            return
        rows = [(name, f"{size:,}") for name, size in sizes.items()] + ([(network, "network")] if network else [])
        terminal.table(("Volume", "Bytes"), rows)
    if look:
        raise Leave(FOUND)
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


def _found(context: Context, config: NodeConfig, workspace: Workspace, leftovers: Leftovers) -> dict[str, Path]:
    """What nobody uses, by name: volumes, and folders that were put aside and could not be removed then."""
    used = used_volumes(config)
    places = leftovers.volumes() if leftovers_are_free(context, config) else {}
    places |= {name: workspace.locate(0, 0, name).temporary for name in workspace.temporary_folders()}
    return {name: place for name, place in places.items() if name not in used} | {
        folder.name: folder for folder in workspace.retired()
    }


def leftovers_are_free(context: Context, config: NodeConfig) -> bool:
    """Whether the node is not at work in a container, where its journal, which says what is in use, is not seen."""
    if config.runtime != "docker":
        return True
    from vantage6.node.admin.container import running  # noqa: PLC0415 - brings the Docker SDK with it

    return running(context, config) is None


def _remove(workspace: Workspace, leftovers: Leftovers, found: dict[str, Path]) -> tuple[list[str], dict[str, str]]:
    removed: list[str] = []
    failed: dict[str, str] = {}
    for name, place in found.items():
        try:
            leftovers.remove(name, place, own=place.is_relative_to(workspace.root))
            removed.append(name)
        except OSError as error:  # The others are removed all the same.
            failed[name] = str(error.strerror or error)
        except Vantage6Error as error:
            failed[name] = error.message
    return removed, failed


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
