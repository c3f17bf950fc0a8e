"""`vserver`: the server administrator's command."""

from __future__ import annotations

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Commands, debug_option, json_option
from vantage6.server import CONTRACT_VERSION, __version__
from vantage6.server.admin.checking import check
from vantage6.server.admin.database import migrate, shell
from vantage6.server.admin.importing import import_file
from vantage6.server.admin.listing import files, list_servers
from vantage6.server.admin.new import new
from vantage6.server.admin.starting import attach, start, stop
from vantage6.server.store.migrate import expected_revision


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@debug_option
def main(*, debug: bool) -> None:
    """The central server: knows who takes part, hands out tasks, never computes and never sees the data."""


@main.command(name="version")
@json_option
def show_version(*, as_json: bool) -> None:
    """Show the versions of the server, the contract and the database schema.

    Example: vserver version
    """
    if as_json:
        terminal.write_json({"server": __version__, "contract": CONTRACT_VERSION, "schema": expected_revision()})
        return
    click.echo(f"vantage6-grpc {__version__}, contract {CONTRACT_VERSION}, schema {expected_revision()}")


for command in (new, start, stop, list_servers, files, attach, import_file, migrate, check, shell):
    main.add_command(command)

if __name__ == "__main__":
    main()
