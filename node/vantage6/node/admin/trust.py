"""`vnode trust`: whose keys this site takes for whose."""

from __future__ import annotations

import rich_click as click

from vantage6.common import terminal
from vantage6.common.commands import Commands, Stop, facts_option, json_option, show, tell
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.common.trust import KnownOrganizations
from vantage6.node.admin.inside import done_inside
from vantage6.node.admin.options import of_node
from vantage6.node.config import load_context


@click.group(cls=Commands)
def trust() -> None:
    """See and accept the keys of the other organizations."""


@trust.command("list")
@of_node
@json_option
def list_(context: Context, *, as_json: bool) -> None:
    """Show the fingerprints that are pinned.

    Example: vnode trust list --name north
    """
    done_inside(context, load_context(context), ["trust", "list"], *(["--json"] if as_json else []))
    try:
        pins = _known(context).pins()
    except Vantage6Error as error:
        raise Stop(error.message) from error
    if as_json:
        terminal.write_json([
            {"organization": id_, "name": pin.name, "fingerprint": pin.fingerprint, "since": pin.since,
             "previous": [each.fingerprint for each in pin.previous]}
            for id_, pin in pins.items()
        ])  # fmt: skip
        return
    for id_, pin in sorted(pins.items()):
        click.echo(f"{id_:>5}  {_harmless(pin.name)}\n       {pin.fingerprint}  since {pin.since[:10] or 'unknown'}")
    if not pins:
        terminal.say("no organization is known yet: keys are pinned when they are first seen")


@trust.command("accept")
@of_node
@click.argument("organization", type=click.IntRange(min=1))
@click.argument("fingerprint")
@click.option("--compromised", is_flag=True, help="The key before is in wrong hands: nothing signed by it counts.")
@facts_option
def accept(context: Context, organization: int, fingerprint: str, *, compromised: bool) -> None:
    """Accept FINGERPRINT as the key of ORGANIZATION (its id), in place of any other.

    Have the organization read the fingerprint to you by telephone. Do not copy it from a log or from the server: who
    stands between would show its own there.

    Example: vnode trust accept --name north 3 1ada:5050:5097:...
    """
    more = [*(["--compromised"] if compromised else []), str(organization), fingerprint]
    done_inside(context, load_context(context), ["trust", "accept"], *more)
    try:
        whole = _known(context).accept_fingerprint(organization, fingerprint, compromised=compromised)
    except Vantage6Error as error:
        raise Stop(error.message) from error
    tell(organization=organization, fingerprint=whole)
    show(f"Organization {organization} is now known by {whole}")
    terminal.say("a running node takes it from its next look at the file; it need not be restarted")


def _known(context: Context) -> KnownOrganizations:
    config = load_context(context)
    return KnownOrganizations(config.data_dir / "known_organizations", config.trust)


def _harmless(name: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in name)
