"""`v6 user`: people with a password."""

from __future__ import annotations

import os

import rich_click as click

from vantage6.cli import output
from vantage6.cli.connection import Connection, connected
from vantage6.common import terminal
from vantage6.common.commands import json_option


@click.group()
def user() -> None:
    """Users: people with a password."""


@user.command("list")
@click.option("-o", "--organization", type=int, help="Only of this one.")
@json_option
@connected
def list_users(connection: Connection, organization: int | None, as_json: bool) -> None:
    """List the users that you may see.

    Example: v6 user list
    """
    with connection.client() as client:
        found = list(client.user.list(organization=organization))
    output.show(found, ("id", "username", "email", "roles", "organization_id"), as_json=as_json)


@user.command("show")
@click.argument("user_id", type=int)
@json_option
@connected
def show(connection: Connection, user_id: int, as_json: bool) -> None:
    """Show one user.

    Example: v6 user show 9
    """
    with connection.client() as client:
        output.show_one(client.user.get(user_id), as_json=as_json)


@user.command("create")
@click.argument("name")
@click.option("--email", required=True, help="Where a lost password is recovered.")
@click.option("-o", "--organization", type=int, help="Whose; your own unless given.")
@click.option("-r", "--role", multiple=True, help="Name of a role; again for more.")
@json_option
@connected
def create(
    connection: Connection, name: str, email: str, organization: int | None, role: tuple[str, ...], as_json: bool
) -> None:
    """Make a user. The password is asked for, or taken from VANTAGE6_NEW_PASSWORD.

    Example: v6 user create alice --email alice@hospital.example -r researcher
    """
    password = os.environ.get("VANTAGE6_NEW_PASSWORD") or click.prompt(
        f"Password of {name}", hide_input=True, confirmation_prompt=True, err=True
    )
    with connection.client() as client:
        made = client.user.create(name, email, password, organization=organization, roles=role)
    output.show_one(made, as_json=as_json)


@user.command("delete")
@click.argument("user_id", type=int)
@connected
def delete(connection: Connection, user_id: int) -> None:
    """Delete a user; what they have asked for stays.

    Example: v6 user delete 9
    """
    with connection.client() as client:
        client.user.delete(user_id)
    terminal.say(f"user {user_id} is deleted")
