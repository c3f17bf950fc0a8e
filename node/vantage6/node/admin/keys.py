"""`vnode create-private-key` and `vnode set-api-key`: the two secrets of a node."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TextIO

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, facts_option, show, tell
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.common.keyring import rotate
from vantage6.common.keys import KeyPair
from vantage6.common.wizard import attended, write_new
from vantage6.node.admin.options import Which, of_node, of_which
from vantage6.node.config import load_context


@click.command("create-private-key")
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@of_which
@facts_option
def create_private_key(which: Which, path: Path | None) -> None:
    """Make the key pair of an organization, at PATH or where the node's configuration has it.

    The public key is uploaded by the node when it starts, if the server has none.

    Examples:

        vnode create-private-key --name north

        vnode create-private-key /etc/vantage6/organization.pem
    """
    path = path or which.environments()[0][1].private_key_file
    if path.exists():
        raise Stop(
            f"{path} exists and was left alone: what was sealed for it can be opened with it only. Choose another name",
            Code.EXISTS,
        )
    try:
        keys = KeyPair.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        keys.save(path)
    except (Vantage6Error, OSError) as error:
        raise Stop(f"no key was made: {error}") from error
    tell(private_key=str(path), fingerprint=keys.public.fingerprint)
    show(f"Private key written to {path} (readable by you only; keep a copy in a safe place).")
    show(f"Fingerprint: {keys.public.fingerprint}")
    show("Next: set 'private_key' in the configurations of all nodes of the organization to this file.")


@click.command("rotate-private-key")
@click.argument("path", required=False, type=click.Path(dir_okay=False, path_type=Path))
@of_which
@facts_option
def rotate_private_key(which: Which, path: Path | None) -> None:
    """Put a new key pair before the old ones in the organization's key file.

    The old ones stay in it: what was sealed for them still opens. The node goes on with the old public key until
    somebody who may edit the organization uploads the new one (`v6`, `client.rotate_private_key` does both).

    Example: vnode rotate-private-key --name north
    """
    path = path or which.environments()[0][1].private_key_file
    try:
        ring = rotate(path)
    except (Vantage6Error, OSError) as error:
        raise Stop(f"the key was not rotated: {error}") from error
    tell(private_key=str(path), fingerprint=ring.public.fingerprint, earlier=len(ring.earlier))
    show(f"{path} holds a new key pair and {len(ring.earlier)} earlier.")
    show(f"Fingerprint: {ring.public.fingerprint}")
    show("Next: copy the file to all nodes and users of the organization, upload the new public key, and have the")
    show("other organizations accept the fingerprint ('vnode trust accept').")


@click.command("set-api-key")
@of_node
@click.option("--api-key-file", "source", type=click.File("r"), help="Read it from there ('-': standard input).")
@facts_option
def set_api_key(context: Context, source: TextIO | None) -> None:
    """Give a node another API key, after it was reset at the server.

    Examples:

        vnode set-api-key --name north

        pass show north | vnode set-api-key --name north --api-key-file -
    """
    config = load_context(context)
    if config.api_key is not None:
        line = context.document.lines[(*context.document.place(context.environment), "api_key")]
        raise Stop(
            f"the key stands in {context.path}, line {line} (api_key): change it there, or better replace that line by "
            "'api_key_file: FILE' and run this again",
            Code.CONFIG,
        )
    target = config.api_key_file
    if target is None:
        raise Stop(
            f"{context.path} names no api_key_file: add 'api_key_file: FILE' to {context.environment!r}", Code.CONFIG
        )
    if source is not None:
        key = source.read()
    elif attended():
        key = click.prompt("API key", hide_input=True)
    else:
        key = sys.stdin.read()
    key = key.strip()
    if not key or not key.isprintable() or " " in key:
        raise Stop("this is no API key; nothing was changed", Code.USAGE)
    write_new(target, f"{key}\n", replace=True)
    tell(api_key_file=str(target))
    terminal.say("the node uses it from its next start: 'vnode restart'")
