"""`v6 task`: ask, look, wait, fetch, stop."""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import rich_click as click
from click.exceptions import Exit as Leave

from vantage6.cli import output
from vantage6.cli.connection import Connection, connected
from vantage6.client import Client, Result, TaskState
from vantage6.common import terminal
from vantage6.common.commands import Code, Stop, json_option

PATH = click.Path(path_type=Path)


@click.group()
def task() -> None:
    """Tasks and their results."""


@task.command("create")
@click.option("-c", "--collaboration", type=int, required=True, help="Where it runs.")
@click.option("-o", "--organization", type=int, multiple=True, help="Who runs it; again for more. All unless given.")
@click.option("-i", "--image", required=True, help="The algorithm.")
@click.option("-m", "--method", help="The method to call.")
@click.option("-k", "--keyword", multiple=True, metavar="NAME=VALUE", help="Its argument, as JSON or text; again.")
@click.option("--input", "file", type=PATH, help="JSON file with the whole input, - for standard input.")
@click.option("-d", "--database", multiple=True, help="Label of a database; again for more.")
@click.option("--name", default="", help="For people; not sealed.")
@click.option("--description", default="", help="For people; not sealed.")
@click.option("--deadline", type=click.IntRange(1), help="Seconds until unfinished results fail.")
@click.option(
    "--retries", type=click.IntRange(0), help="How often a result is tried again that was lost, or whose site failed."
)
@click.option("--retry-failures", is_flag=True, help="Every failure is tried again, the algorithm's own too.")
@click.option("--fail-fast", is_flag=True, help="End it as soon as it cannot be completed any more.")
@click.option("--min-results", type=click.IntRange(1), help="The task is complete when so many are.")
@click.option("--priority", type=int, help="Higher goes first.")
@click.option("--wait", is_flag=True, help="Wait until it is complete.")
@json_option
@connected
def create(connection: Connection, collaboration: int, as_json: bool, wait: bool, **options: Any) -> None:
    """Ask organizations to run an algorithm. Prints the task's number.

    Example: v6 task create -c 1 -o 2 -i vantage6/examples/average:dev -m average -k column=age -d default
    """
    value = _input(options.pop("file"), options.pop("method"), options.pop("keyword"))
    seconds = options.pop("deadline")
    with connection.client(opening=True) as client:
        organizations = options.pop("organization") or _all(client, collaboration)
        made = client.task.create(
            collaboration,
            organizations,
            input=value,
            databases=options.pop("database"),
            deadline=dt.timedelta(seconds=seconds) if seconds else None,
            **options,
        )
        done = client.wait(made) if wait else made
    if as_json:
        output.write(output.plain(done))
    else:
        click.echo(str(done.id))
        terminal.say(f"task {done.id} is {done.state}")
    _exit(done.state)


def _input(file: Path | None, method: str | None, keywords: tuple[str, ...]) -> object:
    if (file is None) == (method is None):
        raise Stop("give --method, or --input with the whole input", Code.USAGE)
    if file is None:
        return {"method": method, "args": [], "kwargs": dict(_keyword(each) for each in keywords)}
    if keywords:
        raise Stop("--keyword goes with --method; --input has them all", Code.USAGE)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
        return json.loads(text)
    except ValueError as error:
        raise Stop(f"{file}: no JSON: {error}", Code.USAGE) from None


def _keyword(text: str) -> tuple[str, object]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise Stop(f"--keyword {text}: write it as name=value", Code.USAGE)
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def _all(client: Client, collaboration: int) -> list[int]:
    return [each.id for each in client.organization.list(collaboration=collaboration)]


def _say_missing(results: list[Result]) -> None:
    """Who has not delivered, by name and with the reason, on standard error."""
    for each in results:
        if each.why:
            terminal.say(terminal.harmless(f"missing: {each.organization_name}, {each.why}"))


def _exit(state: TaskState) -> None:
    if state in (TaskState.FAILED, TaskState.CANCELLED):
        raise Leave(Code.FAILED)


@task.command("list")
@click.option("-c", "--collaboration", type=int, help="Only of this one.")
@click.option("--state", help="open, or the name of a state such as completed.")
@json_option
@connected
def list_tasks(connection: Connection, collaboration: int | None, state: str | None, as_json: bool) -> None:
    """List the tasks that you may see.

    Example: v6 task list --state open
    """
    with connection.client() as client:
        found = list(client.task.list(collaboration=collaboration, state=state))
    output.show(found, ("id", "name", "image", "state", "collaboration_id", "create_time"), as_json=as_json)


@task.command("show")
@click.argument("task_id", type=int)
@json_option
@connected
def show(connection: Connection, task_id: int, as_json: bool) -> None:
    """Show how a task stands at each organization.

    Example: v6 task show 7
    """
    with connection.client() as client:
        known = client.task.get(task_id)
        results = list(client.result.list(task=task_id))
    if as_json:
        output.write({"task": output.plain(known), "results": [output.plain(each) for each in results]})
        return
    click.echo(terminal.harmless(f"task {known.id} {known.name}: {known.state}"))
    output.show(results, ("organization_name", "state", "reason", "message", "finish_time"), as_json=False)
    _say_missing(results)


@task.command("wait")
@click.argument("task_id", type=int)
@click.option("--timeout", type=float, help="Seconds to wait at most; the task goes on.")
@json_option
@connected
def wait(connection: Connection, task_id: int, timeout: float | None, as_json: bool) -> None:
    """Wait until a task is complete, and show on a terminal how each organization is doing.

    Example: v6 task wait 7
    """
    with connection.client(opening=True) as client:
        done = client.wait(task_id, timeout=timeout)
        missing = list(client.task.missing(task_id))
    if as_json:
        output.write({"task": output.plain(done), "missing": [output.plain(each) for each in missing]})
    else:
        click.echo(str(done.state))
    _say_missing(missing)
    _exit(done.state)


@task.command("cancel")
@click.argument("task_id", type=int)
@json_option
@connected
def cancel(connection: Connection, task_id: int, as_json: bool) -> None:
    """Stop what is unfinished of a task; what organizations have returned stays.

    Example: v6 task cancel 7
    """
    with connection.client() as client:
        done = client.task.cancel(task_id)
    if as_json:
        output.write(output.plain(done))
    else:
        click.echo(str(done.state))


@task.command("logs")
@click.argument("task_id", type=int)
@connected
def logs(connection: Connection, task_id: int) -> None:
    """Follow what a task's runs print, where the site shares it, until the task is complete.

    Example: v6 task logs 7
    """
    with connection.client(opening=True) as client:
        for line in client.logs(task_id):
            click.echo(terminal.harmless(line))


@task.command("result")
@click.argument("task_id", type=int)
@click.option("--output", "file", type=PATH, help="Write there; tables also as .csv, .parquet or .arrow.")
@click.option("--folder", type=PATH, help="Write each output into a file there, of whatever size.")
@connected
def result(connection: Connection, task_id: int, file: Path | None, folder: Path | None) -> None:
    """Wait for what each organization returns, as JSON; ends with 1 if one did not deliver.

    Example: v6 task result 7 --output result.json
    """
    with connection.client(opening=True) as client:
        client.wait(task_id)  # which shows how far they are
        found = list(client.results(task_id, folder=folder))
    output.write_results(found, file)
    if not all(each.completed for each in found):
        raise Leave(Code.FAILED)
