"""`v6 organization`, `v6 collaboration` and `v6 node`: who takes part."""

from __future__ import annotations

from collections.abc import Callable

import rich_click as click

from vantage6.cli import output
from vantage6.cli.connection import Command, Connection, connected
from vantage6.client import Node
from vantage6.common import terminal
from vantage6.common.commands import json_option

COLLABORATION = ("id", "name", "encrypted", "organization_ids")
NODE = ("id", "name", "online", "organization_id", "collaboration_id", "version", "last_seen")


def number(name: str) -> Callable[[Command], Command]:
    """An argument that is the number of something."""
    return click.argument(name, type=int)


@click.group()
def organization() -> None:
    """Organizations: they hold data, ask questions, or both."""


@organization.command("list")
@click.option("-c", "--collaboration", type=int, help="Only its members.")
@json_option
@connected
def list_organizations(connection: Connection, collaboration: int | None, as_json: bool) -> None:
    """List the organizations that you may see.

    Example: v6 organization list
    """
    with connection.client() as client:
        found = list(client.organization.list(collaboration=collaboration))
    output.show(found, ("id", "name", "domain", "country", "collaboration_ids"), as_json=as_json)


@organization.command("show")
@number("organization_id")
@json_option
@connected
def show_organization(connection: Connection, organization_id: int, as_json: bool) -> None:
    """Show one organization.

    Example: v6 organization show 2
    """
    with connection.client() as client:
        output.show_one(client.organization.get(organization_id), as_json=as_json)


@organization.command("create")
@click.argument("name")
@click.option("--domain", default="", help="Such as hospital.example.")
@click.option("--country", default="", help="Where it is.")
@json_option
@connected
def create_organization(connection: Connection, name: str, domain: str, country: str, as_json: bool) -> None:
    """Register an organization.

    Example: v6 organization create "Hospital North" --domain north.example
    """
    with connection.client() as client:
        output.show_one(client.organization.create(name, domain=domain, country=country), as_json=as_json)


@click.group()
def collaboration() -> None:
    """Collaborations: organizations that analyse data together."""


@collaboration.command("list")
@json_option
@connected
def list_collaborations(connection: Connection, as_json: bool) -> None:
    """List the collaborations that you may see.

    Example: v6 collaboration list
    """
    with connection.client() as client:
        output.show(list(client.collaboration.list()), COLLABORATION, as_json=as_json)


@collaboration.command("show")
@number("collaboration_id")
@json_option
@connected
def show_collaboration(connection: Connection, collaboration_id: int, as_json: bool) -> None:
    """Show one collaboration.

    Example: v6 collaboration show 1
    """
    with connection.client() as client:
        output.show_one(client.collaboration.get(collaboration_id), as_json=as_json)


@collaboration.command("create")
@click.argument("name")
@click.option("-o", "--organization", type=int, multiple=True, required=True, help="A member; again for more.")
@click.option("--encrypted/--plain", default=True, help="Whether inputs and results are sealed end to end.")
@json_option
@connected
def create_collaboration(
    connection: Connection, name: str, organization: tuple[int, ...], encrypted: bool, as_json: bool
) -> None:
    """Make a collaboration of organizations.

    Example: v6 collaboration create study -o 1 -o 2 -o 3
    """
    with connection.client() as client:
        output.show_one(client.collaboration.create(name, organization, encrypted=encrypted), as_json=as_json)


@collaboration.command("add")
@number("collaboration_id")
@number("organization_id")
@json_option
@connected
def add(connection: Connection, collaboration_id: int, organization_id: int, as_json: bool) -> None:
    """Let an organization join.

    Example: v6 collaboration add 1 4
    """
    with connection.client() as client:
        output.show_one(client.collaboration.add_organization(collaboration_id, organization_id), as_json=as_json)


@collaboration.command("remove")
@number("collaboration_id")
@number("organization_id")
@json_option
@connected
def remove(connection: Connection, collaboration_id: int, organization_id: int, as_json: bool) -> None:
    """Take an organization out.

    Example: v6 collaboration remove 1 4
    """
    with connection.client() as client:
        output.show_one(client.collaboration.remove_organization(collaboration_id, organization_id), as_json=as_json)


@click.group()
def node() -> None:
    """Nodes: the data stations' workers."""


@node.command("list")
@click.option("-c", "--collaboration", type=int, help="Only of this one.")
@json_option
@connected
def list_nodes(connection: Connection, collaboration: int | None, as_json: bool) -> None:
    """List the nodes that you may see, and whether they are online.

    Example: v6 node list
    """
    with connection.client() as client:
        output.show(list(client.node.list(collaboration=collaboration)), NODE, as_json=as_json)


@node.command("show")
@number("node_id")
@json_option
@connected
def show_node(connection: Connection, node_id: int, as_json: bool) -> None:
    """Show one node.

    Example: v6 node show 3
    """
    with connection.client() as client:
        output.show_one(client.node.get(node_id), as_json=as_json)


@node.command("create")
@click.option("-c", "--collaboration", type=int, required=True, help="Where it works.")
@click.option("-o", "--organization", type=int, help="Whose it is; your own unless given.")
@click.option("--name", default="", help="For people.")
@json_option
@connected
def create_node(connection: Connection, collaboration: int, organization: int | None, name: str, as_json: bool) -> None:
    """Register a node. Prints its API key, which is shown once and never again.

    Example: v6 node create -c 1 --name north > api-key
    """
    with connection.client() as client:
        made = client.node.create(collaboration, organization, name)
    terminal.say(f"node {made.id} {made.name} is registered; this is its API key:")
    _show_key(made, as_json=as_json)


def _show_key(made: Node, *, as_json: bool) -> None:
    """Asked for by the command itself; no other one shows it."""
    if as_json:
        output.write({**output.plain(made), "api_key": made.api_key})
    else:
        click.echo(made.api_key)


@node.command("reset-key")
@number("node_id")
@json_option
@connected
def reset_key(connection: Connection, node_id: int, as_json: bool) -> None:
    """Print a new API key for a node; the old one stops working at once.

    Example: v6 node reset-key 3 > api-key
    """
    with connection.client() as client:
        _show_key(client.node.reset_api_key(node_id), as_json=as_json)


@node.command("delete")
@number("node_id")
@connected
def delete_node(connection: Connection, node_id: int) -> None:
    """Strike a node off; its results stay.

    Example: v6 node delete 3
    """
    with connection.client() as client:
        client.node.delete(node_id)
    terminal.say(f"node {node_id} is deleted")
