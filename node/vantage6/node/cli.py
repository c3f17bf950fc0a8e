"""`vnode`: the site administrator's command."""

from __future__ import annotations

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Commands, debug_option, json_option
from vantage6.node.admin.checking import check
from vantage6.node.admin.cleaning import clean
from vantage6.node.admin.following import attach
from vantage6.node.admin.keys import create_private_key, rotate_private_key, set_api_key
from vantage6.node.admin.listing import files, list_nodes
from vantage6.node.admin.new import new
from vantage6.node.admin.starting import start
from vantage6.node.admin.stopping import restart, stop
from vantage6.node.admin.trust import trust
from vantage6.node.app import versions
from vantage6.node.audit_cli import audit, load


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@debug_option
def main(*, debug: bool) -> None:
    """Runs vantage6 nodes: the part that stays with the data."""


@main.command()
@json_option
def version(*, as_json: bool) -> None:
    """Show the versions of the node and of what it is made of.

    Example: vnode version
    """
    found = {name: number for name, number in versions("").items() if number}
    if as_json:
        terminal.write_json(found)
        return
    for name, number in found.items():
        click.echo(f"{name:14}{number}")


for command in (
    new,
    start,
    stop,
    restart,
    list_nodes,
    files,
    attach,
    check,
    clean,
    create_private_key,
    rotate_private_key,
    set_api_key,
    trust,
):
    main.add_command(command)
for command in (audit, load):
    main.add_command(command)

if __name__ == "__main__":
    main()
