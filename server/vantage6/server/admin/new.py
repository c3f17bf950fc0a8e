"""`vserver new`: makes a configuration, by questions or by options."""

from __future__ import annotations

from typing import Any

import rich_click as click
import yaml

from vantage6.common import terminal
from vantage6.common.commands import environment_option, facts_option, name_option
from vantage6.common.contexts import DEFAULT_SCOPE, Kind, Scope, check_name, folders
from vantage6.common.errors import Vantage6Error
from vantage6.common.wizard import answer, refuse_existing, write_configuration
from vantage6.server.admin.options import of_scope
from vantage6.server.config import ServerConfig
from vantage6.server.domain.checks import check_email


@click.command()
@name_option
@environment_option
@of_scope
@click.option("--address", help="Where it listens for the gateway, such as 127.0.0.1:5001.")
@click.option("--uri", help="SQLAlchemy URL of the database; empty: a file in the data folder.")
@click.option("--root-email", help="Email address of the user root.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@facts_option
def new(
    *, name: str | None, environment: str | None, scope: str | None, address: str | None, uri: str | None,
    root_email: str | None, yes: bool,
) -> None:  # fmt: skip
    """Make the configuration of a server. What is not given as an option is asked for.

    Examples:

        vserver new

        vserver new --name central --user --root-email admin@example.org --yes
    """
    name = answer(name, "--name", "Name of the configuration", check=check_name)
    environment = environment or "prod"
    place = folders(Kind.SERVER, Scope(scope) if scope else DEFAULT_SCOPE[Kind.SERVER])
    path = place.config / f"{name}.yaml"
    refuse_existing(path, environment)
    question = "Where it listens for the gateway"
    settings: dict[str, Any] = {"name": name}
    settings["address"] = answer(address, "--address", question, default="127.0.0.1:5001", check=_address)
    if url := answer(uri, "--uri", "URL of the database (empty: an SQLite file)", default="", check=_uri):
        settings["uri"] = url
    settings["root_email"] = answer(root_email, "--root-email", "Email address of root", check=_email)
    section = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    write_configuration(path, environment, section, yes=yes)
    flags = f"--name {name}{'' if environment == 'prod' else f' --environment {environment}'}"
    flags += f" --{scope}" if scope and scope != DEFAULT_SCOPE[Kind.SERVER] else ""
    terminal.say(f"next: 'vserver check {flags}', then 'vserver start {flags}'")


def _address(text: str) -> str:
    try:
        ServerConfig(address=text)
    except ValueError as error:
        raise ValueError(f"{text!r}: write it as host:port, such as 127.0.0.1:5001") from error
    return text


def _uri(text: str) -> str:
    if text and not text.startswith(("sqlite+aiosqlite:///", "postgresql+asyncpg://")):
        raise ValueError("write it as sqlite+aiosqlite:///PATH or postgresql+asyncpg://USER@HOST/DATABASE")
    return text


def _email(text: str) -> str:
    try:
        return check_email(text)
    except Vantage6Error as error:
        raise ValueError(error.message) from error
