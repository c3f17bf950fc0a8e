"""`vnode clean`: the temporary volumes that runs with the same run_id shared, once nobody uses them any more."""

from __future__ import annotations

import asyncio
from pathlib import Path

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, json_option
from vantage6.common.contexts import Context
from vantage6.node import states
from vantage6.node.admin.options import of_node, title
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.journal import Journal
from vantage6.node.workspace import Workspace


@click.command()
@of_node
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def clean(context: Context, *, yes: bool, as_json: bool) -> None:
    """Remove the temporary volumes of runs that have ended. Those in use stay.

    Example: vnode clean --name north --yes
    """
    config = load_context(context)
    workspace = Workspace(config.task_dir, config.name)
    used = used_run_ids(config)
    found = [run_id for run_id in workspace.temporary_folders() if run_id not in used]
    sizes = {run_id: _size(workspace.locate(0, 0, run_id).temporary) for run_id in found}
    if not as_json:
        what = title(context, config)
        if not found:
            terminal.say(f"{what} has no temporary volume that is not in use")
            return
        terminal.table(("Run", "Bytes"), [(run_id, f"{size:,}") for run_id, size in sizes.items()])
    if found and not yes:
        if as_json:
            raise Stop("say --yes with --json: nobody can be asked", Code.USAGE)
        if not click.confirm(f"Remove these {len(found)} temporary volumes, {sum(sizes.values()):,} bytes?"):
            terminal.say("nothing was removed")
            return
    removed, failed = _remove(workspace, found)
    if as_json:
        terminal.write_json({"removed": removed, "failed": failed})
    for run_id, why in failed.items():
        terminal.warn(f"run {run_id} was not removed: {why}")
    terminal.say(f"{len(removed)} temporary volumes were removed")
    if failed:
        raise Stop(f"{len(failed)} could not be removed", Code.FAILED)


def _remove(workspace: Workspace, run_ids: list[str]) -> tuple[list[str], dict[str, str]]:
    removed: list[str] = []
    failed: dict[str, str] = {}
    for run_id in run_ids:
        try:
            workspace.remove_temporary(run_id)
            removed.append(run_id)
        except OSError as error:  # The others are removed all the same.
            failed[run_id] = str(error.strerror)
    return removed, failed


def used_run_ids(config: NodeConfig) -> set[str]:
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
        return {str(entry.assignment.run_id) for entry in entries if entry.state not in states.FINAL}

    return asyncio.run(read())


def _size(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
