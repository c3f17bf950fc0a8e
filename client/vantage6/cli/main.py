"""`v6`: looks at tasks and their results from a shell.

Server and log-in come from options or from the environment, the password never from the command line.
"""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import click

from vantage6.cli import output
from vantage6.client import Client
from vantage6.common.errors import SecondFactorRequired, Vantage6Error

_PATH = click.Path(dir_okay=False, path_type=Path)

Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class Login:
    """Where to go, and as whom."""

    url: str
    ca_file: Path | None
    username: str
    password: str
    key: Path | None
    known: Path | None

    @contextmanager
    def client(self, *, opening: bool = False) -> Iterator[Client]:
        """A client that is logged in; with `opening`, one that can open results."""
        with _told(), Client(self.url, self.ca_file, known_organizations=self.known) as client:
            try:
                client.authenticate(self.username, self.password)
            except SecondFactorRequired:
                client.authenticate(self.username, self.password, click.prompt("Code", hide_input=True, err=True))
            if opening and self.key is not None:
                client.setup_encryption(self.key)
            yield client


@contextmanager
def _told() -> Iterator[None]:
    """Failures as one line instead of a traceback."""
    try:
        yield
    except Vantage6Error as error:
        raise click.ClickException(f"{error.message} ({error.reason})") from None


def _with_login(command: Command) -> Command:
    options = (
        click.option("--server", envvar="VANTAGE6_SERVER", required=True, help="Such as https://server.example:443."),
        click.option("--ca-file", envvar="VANTAGE6_CA_FILE", type=_PATH),
        click.option("--username", "-u", envvar="VANTAGE6_USERNAME", prompt=True, prompt_required=False),
        click.option("--key", envvar="VANTAGE6_KEY", type=_PATH, help="Key file that opens results."),
        click.option("--known-organizations", "known", envvar="VANTAGE6_KNOWN_ORGANIZATIONS", type=_PATH),
    )

    @functools.wraps(command)
    def with_login(  # type: ignore[no-untyped-def]
        *args, server: str, ca_file: Path | None, username: str | None, key: Path | None, known: Path | None, **kwargs
    ) -> None:
        username = username or click.prompt("Username", err=True)
        command(Login(server, ca_file, username, _password(), key, known), *args, **kwargs)

    return functools.reduce(lambda inner, option: option(inner), reversed(options), with_login)  # type: ignore[return-value]


def _password() -> str:
    """From the environment, or asked for: command lines are seen by everybody on the machine."""
    found: str = os.environ.get("VANTAGE6_PASSWORD") or click.prompt("Password", hide_input=True, err=True)
    return found


_json = click.option("--json", "as_json", is_flag=True, help="For programs instead of people.")


@click.group()
def main() -> None:
    """Work with a vantage6 server."""


@main.command()
def version() -> None:
    """Show this program's version."""
    click.echo(importlib.metadata.version("vantage6-grpc"))


@main.group()
def task() -> None:
    """Tasks and their results."""


@task.command("list")
@click.option("--collaboration", type=int)
@click.option("--state", help="open, or the name of a state such as completed.")
@_json
@_with_login
def list_tasks(login: Login, collaboration: int | None, state: str | None, as_json: bool) -> None:
    """List the tasks that you may see."""
    with login.client() as client:
        output.show(
            list(client.task.list(collaboration=collaboration, state=state)),
            ("id", "name", "image", "state", "collaboration_id", "create_time"),
            as_json=as_json,
        )


@task.command("show")
@click.argument("task_id", type=int)
@_json
@_with_login
def show_task(login: Login, task_id: int, as_json: bool) -> None:
    """Show how a task stands at each organization."""
    with login.client() as client:
        known = client.task.get(task_id)
        results = list(client.result.list(task=task_id))
    if as_json:
        output.write({"task": output.plain(known), "results": [output.plain(each) for each in results]})
        return
    click.echo(f"task {known.id} {known.name}: {known.state}")
    output.show(results, ("organization_name", "state", "reason", "message", "finish_time"), as_json=False)


@task.command("wait")
@click.argument("task_id", type=int)
@_with_login
def wait(login: Login, task_id: int) -> None:
    """Wait until a task is complete, and show how each organization is doing."""
    with login.client() as client:
        click.echo(str(client.wait(task_id).state))


@task.command("result")
@click.argument("task_id", type=int)
@click.option("--output", "file", type=click.Path(path_type=Path), help="Write there instead of here.")
@_with_login
def result(login: Login, task_id: int, file: Path | None) -> None:
    """Show what each organization returned, as JSON; ends with 1 if one did not deliver."""
    with login.client(opening=True) as client:
        found = list(client.results(task_id))
    output.write([output.plain(each) for each in found], file)
    if not all(each.completed for each in found):
        raise click.exceptions.Exit(1)
