"""`v6 keys`: the organization's key file, and which keys of others are trusted."""

from __future__ import annotations

import os
from pathlib import Path

import rich_click as click

from vantage6.cli import output
from vantage6.cli.connection import FILE, Connection, connected
from vantage6.common import terminal
from vantage6.common.commands import json_option
from vantage6.common.keyring import KeyRing
from vantage6.common.keys import KeyPair


@click.group()
def keys() -> None:
    """Keys of your organization, and those of others that you trust."""


def _passphrase() -> str | None:
    return os.environ.get("VANTAGE6_KEY_PASSPHRASE")


def _print(fingerprint: str, *, as_json: bool) -> None:
    if as_json:
        output.write({"fingerprint": fingerprint})
    else:
        click.echo(fingerprint)


@keys.command("create")
@click.argument("file", type=FILE)
@json_option
def create(file: Path, as_json: bool) -> None:
    """Make a key file for your organization, never over another one; its nodes and users need the same one.

    With VANTAGE6_KEY_PASSPHRASE in the environment it is encrypted. Prints the fingerprint.

    Example: v6 keys create private_key.pem
    """
    pair = KeyPair.generate()
    pair.save(file, _passphrase())
    _print(pair.public.fingerprint, as_json=as_json)


@keys.command("show")
@click.argument("file", type=FILE)
@json_option
def show(file: Path, as_json: bool) -> None:
    """Print the fingerprint of a key file, to be told to others by telephone.

    Example: v6 keys show private_key.pem
    """
    _print(KeyRing.load(file, _passphrase()).public.fingerprint, as_json=as_json)


@keys.command("rotate")
@click.argument("file", type=FILE)
@json_option
@connected
def rotate(connection: Connection, file: Path, as_json: bool) -> None:
    """Make a new pair in front of the others in a key file, and make it known. Prints its fingerprint.

    Example: v6 keys rotate private_key.pem
    """
    with connection.client() as client:
        _print(client.rotate_private_key(file, _passphrase()), as_json=as_json)
    terminal.say("copy the file to the organization's nodes and users; tell the others the fingerprint")


@keys.command("list")
@json_option
@connected
def list_keys(connection: Connection, as_json: bool) -> None:
    """List the keys that are pinned here.

    Example: v6 keys list
    """
    with connection.client() as client:
        pinned = client.trusted()
    if as_json:
        output.write(pinned)
    else:
        terminal.table(("organization", "fingerprint"), sorted(pinned.items()))


@keys.command("trust")
@click.argument("organization_id", type=int)
@click.argument("fingerprint")
@click.option("--compromised", is_flag=True, help="What was signed with the key before counts no more.")
@connected
def trust(connection: Connection, organization_id: int, fingerprint: str, compromised: bool) -> None:
    """Accept an organization's new key, whose fingerprint you were told by the organization itself.

    Example: v6 keys trust 2 "1f2e 3d4c …"
    """
    with connection.client() as client:
        client.trust(organization_id, fingerprint, compromised=compromised)
    terminal.say(f"the key of organization {organization_id} is accepted")
