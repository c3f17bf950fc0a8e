"""`v6`: what a researcher does, from a shell.

Secrets never come from the command line, which everybody on the machine can see: they are asked for, or taken from the
environment.
"""

from __future__ import annotations

import importlib.metadata
import os

import rich_click as click

from vantage6.cli import output
from vantage6.cli.access import second_factor, session
from vantage6.cli.connection import Connection, connected, log_in, remember
from vantage6.cli.keys import keys
from vantage6.cli.parties import collaboration, node, organization
from vantage6.cli.proxy import proxy
from vantage6.cli.tasks import task
from vantage6.cli.users import user
from vantage6.client.errors import Vantage6Error
from vantage6.common import terminal
from vantage6.common.commands import Code, Commands, Stop, debug_option, json_option


@click.group(cls=Commands)
@debug_option
def main(debug: bool) -> None:
    """Work with a vantage6 server: log in, ask organizations to run an algorithm, fetch what they return."""


@main.command()
def version() -> None:
    """Show this program's version.

    Example: v6 version
    """
    click.echo(importlib.metadata.version("vantage6-grpc"))


@main.command()
@connected
def login(connection: Connection) -> None:
    """Log in and stay so: the other commands need no password then, nor the options that are given here.

    The password, and the code of the second factor where there is one, are asked for, or taken from
    VANTAGE6_PASSWORD and VANTAGE6_MFA_CODE. The tokens are kept in a file that only you can read.

    Example: v6 login --server https://server.example --key private_key.pem
    """
    username = connection.username or click.prompt("Username", err=True)
    password = os.environ.get("VANTAGE6_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
    with connection.open() as client:
        log_in(client, username, password, os.environ.get("VANTAGE6_MFA_CODE"))
        if connection.place.key:
            client.setup_encryption(connection.place.key, os.environ.get("VANTAGE6_KEY_PASSPHRASE"))
        remember(connection.place)
        whoami = client.whoami
    where = f" of {whoami.organization_name}" if whoami.organization_name else ""
    terminal.say(f"{whoami.username}{where} is logged in at {connection.place.server}")


@main.command()
@connected
def logout(connection: Connection) -> None:
    """End the log-in, here and at the server.

    Example: v6 logout
    """
    with connection.open() as client:
        try:
            client.resume()
        except Vantage6Error:
            raise Stop("nobody is logged in", Code.NOT_RUNNING) from None
        client.log_out()
    terminal.say("logged out")


@main.command()
@json_option
@connected
def whoami(connection: Connection, as_json: bool) -> None:
    """Show who is logged in.

    Example: v6 whoami
    """
    with connection.client() as client:
        output.show_one(client.whoami, as_json=as_json)


for group in (task, organization, collaboration, node, user, session, second_factor, keys, proxy):
    main.add_command(group)
