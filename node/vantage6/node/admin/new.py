"""`vnode new`: makes a configuration, by questions or by options."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import rich_click as click
import yaml

from vantage6.common import terminal
from vantage6.common.channel import Endpoint
from vantage6.common.commands import environment_option, facts_option, name_option
from vantage6.common.contexts import DEFAULT_SCOPE, Kind, Scope, check_name, folders
from vantage6.common.errors import Vantage6Error
from vantage6.common.settings import APPLICATION, ConfigError
from vantage6.common.wizard import answer, attended, choice, more, refuse_existing, write_configuration, write_new
from vantage6.node.admin.options import of_scope
from vantage6.node.config import LABEL, NodeConfig

TYPES = ("csv", "parquet", "excel", "folder", "other")
RUNTIMES = ("docker", "sandbox")


@click.command()
@name_option
@environment_option
@of_scope
@click.option("--server-url", help="Such as https://server.example:443.")
@click.option("--ca-file", type=click.Path(dir_okay=False), help="Authorities to trust instead of the system's.")
@click.option("--api-key", envvar="VANTAGE6_NODE_API_KEY", help="Better in the environment: VANTAGE6_NODE_API_KEY.")
@click.option("--database", "databases", multiple=True, help="LABEL=PATH or LABEL=TYPE:PATH; several times.")
@click.option("--allowed-image", "images", multiple=True, help="Pattern of images that may run; several times.")
@click.option("--private-key", type=click.Path(dir_okay=False), help="The organization's, if it has one already.")
@click.option("--runtime", type=click.Choice(RUNTIMES))
@click.option("--yes", is_flag=True, help="Write without asking.")
@facts_option
def new(
    *, name: str | None, environment: str | None, scope: str | None, server_url: str | None, ca_file: str | None,
    api_key: str | None, databases: tuple[str, ...], images: tuple[str, ...], private_key: str | None,
    runtime: str | None, yes: bool,
) -> None:  # fmt: skip
    """Make the configuration of a node. What is not given as an option is asked for.

    Examples:

        vnode new

        vnode new --name north --server-url https://server.example --database default=/data/patients.csv \
--allowed-image 'example/.*' --yes
    """
    name = answer(name, "--name", "Name of the configuration", check=check_name)
    environment = environment or APPLICATION
    place = folders(Kind.NODE, Scope(scope) if scope else DEFAULT_SCOPE[Kind.NODE])
    path = place.config / f"{name}.yaml"
    refuse_existing(path, environment)
    server_url = answer(server_url, "--server-url", "Address of the server (https://…)", check=_url)
    secret = answer(api_key, "--api-key", "API key (shown when the node was registered)", secret=True, check=_key)
    suffix = "" if environment == APPLICATION else f".{environment}"
    key_file = path.with_name(f"{name}{suffix}.api_key")
    settings: dict[str, Any] = {"name": name, "server_url": server_url, "api_key_file": str(key_file)}
    settings |= _optional(ca_file, private_key)
    settings["databases"] = _databases(databases)
    settings["policy"] = {"allowed_images": _images(images)}
    settings["runtime"] = choice(runtime, "--runtime", "What runs the algorithms?", RUNTIMES, RUNTIMES[0])
    NodeConfig.model_validate(settings)
    section = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    if key_file.exists():
        terminal.warn(f"{key_file} exists and will be used as it is")
    write_configuration(path, environment, section, yes=yes)
    if not key_file.exists():
        write_new(key_file, f"{secret}\n")
    flags = f"--name {name}{'' if environment == APPLICATION else f' --environment {environment}'}"
    flags += f" --{scope}" if scope and scope != DEFAULT_SCOPE[Kind.NODE] else ""
    terminal.say(f"next: 'vnode check {flags}', then 'vnode start {flags}'")


def _url(text: str) -> str:
    try:
        Endpoint(text).target  # noqa: B018 - it checks
    except Vantage6Error as error:
        raise ValueError(error.message) from error
    return text


def _key(text: str) -> str:
    if not text.strip():
        raise ValueError("the API key is needed")
    return text.strip()


def _optional(ca_file: str | None, private_key: str | None) -> dict[str, str]:
    """Asked for as well, and left out when the answer is empty."""
    found = {}
    questions = (
        ("ca_file", ca_file, "CA bundle of the server's certificate (empty: the system's)"),
        ("private_key", private_key, "Private key of the organization (empty: made when there is none)"),
    )
    for key, given, question in questions:
        text = answer(given, f"--{key.replace('_', '-')}", question, default="")
        if text:
            found[key] = str(Path(text).expanduser().absolute())
    return found


def _databases(given: tuple[str, ...]) -> dict[str, dict[str, str]]:
    found = dict(_database(text) for text in given)
    if found or not attended():
        return found
    label = "default"
    while True:
        uri = answer(None, "--database", f"Database {label!r}: path of the file", check=_nonempty)
        kind = choice(None, "--database", "Which kind?", TYPES, "csv")
        found[label] = {"uri": _absolute(uri), "type": kind}
        if not more("Another database?"):
            return found
        label = answer(None, "--database", "Its label", check=_label)


def _database(text: str) -> tuple[str, dict[str, str]]:
    label, equals, rest = text.partition("=")
    if not equals or not rest:
        raise ConfigError(f"--database {text!r}: write it as LABEL=PATH or LABEL=TYPE:PATH")
    kind, colon, uri = rest.partition(":")
    if not colon or kind not in TYPES:
        kind, uri = "csv", rest
    return _label(label), {"uri": _absolute(uri), "type": kind}


def _absolute(uri: str) -> str:
    return uri if "://" in uri else str(Path(uri).expanduser().absolute())


def _label(text: str) -> str:
    if not LABEL.fullmatch(text):
        raise ValueError(f"label {text!r}: use letters, digits, '_' and '-', beginning with a letter")
    return text


def _nonempty(text: str) -> str:
    if not text.strip():
        raise ValueError("it cannot be empty")
    return text.strip()


def _images(given: tuple[str, ...]) -> list[str]:
    if given:
        return [_pattern(text) for text in given]
    text = answer(None, "--allowed-image", "Images that may run here, as regular expressions, separated by spaces",
                  default="", check=lambda answer: " ".join(map(_pattern, answer.split())))  # fmt: skip
    return text.split()


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ConfigError(f"{text!r} is no regular expression: {error}") from error
    return text
