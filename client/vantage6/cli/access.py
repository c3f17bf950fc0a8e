"""`v6 session` and `v6 second-factor`: how you get in, from where, and with what beside the password."""

from __future__ import annotations

import os

import rich_click as click

from vantage6.cli import output
from vantage6.cli.connection import Connection, connected
from vantage6.client import Client
from vantage6.client.errors import Unauthenticated
from vantage6.common import terminal
from vantage6.common.commands import json_option


@click.group()
def session() -> None:
    """Your log-ins at the server, wherever they were made."""


@session.command("list")
@json_option
@connected
def list_sessions(connection: Connection, as_json: bool) -> None:
    """List your log-ins, with the address that each came from.

    Example: v6 session list
    """
    with connection.client() as client:
        found = list(client.session.list())
    output.show(found, ("id", "ip", "current", "create_time", "last_used_time"), as_json=as_json)


@session.command("end")
@click.argument("session_id", type=int)
@connected
def end(connection: Connection, session_id: int) -> None:
    """End one of your log-ins, such as that of a machine that you have lost.

    Example: v6 session end 12
    """
    with connection.client() as client:
        client.session.delete(session_id)
    terminal.say(f"session {session_id} has ended")


@click.group("second-factor")
def second_factor() -> None:
    """A code from your telephone beside the password."""


@second_factor.command("create")
@connected
def create(connection: Connection) -> None:
    """Ask for a code at each log-in from now on. Prints what your authenticator needs, then the recovery codes.

    The password is asked for, or taken from VANTAGE6_PASSWORD; it counts once the first code was right.

    Example: v6 second-factor create
    """
    with connection.client() as client:
        made = client.second_factor.create(_password())
        terminal.say(f"give this to your authenticator: secret {made.secret}, or as a QR code {made.uri}")
        codes = _confirmed(client)
    terminal.say("the second factor is on; keep these recovery codes, each is good once instead of a code:")
    for each in codes:
        click.echo(each)


@second_factor.command("delete")
@click.option("--user", "user_id", type=int, help="Of this user, who has lost it; your own unless given.")
@connected
def delete(connection: Connection, user_id: int | None) -> None:
    """Switch a second factor off, with your own password and your own code (empty if you have none).

    Example: v6 second-factor delete
    """
    with connection.client() as client:
        client.second_factor.delete(_password(), _code(), user_id)
    terminal.say("the second factor is off")


def _confirmed(client: Client) -> tuple[str, ...]:
    while True:
        code = click.prompt("Code that it shows", hide_input=True, err=True)
        try:
            return client.second_factor.confirm(code)
        except Unauthenticated as error:  # The server says when there were too many of these.
            terminal.say(error.message)


def _password() -> str:
    found = os.environ.get("VANTAGE6_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
    return str(found)


def _code() -> str:
    found = os.environ.get("VANTAGE6_MFA_CODE")
    return found or str(click.prompt("Code", default="", hide_input=True, show_default=False, err=True))
