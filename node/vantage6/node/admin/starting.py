"""`vnode start`: a node in the background, in a container or as a process; or in the foreground."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from vantage6.common import background, terminal
from vantage6.common.commands import Code, Stop, code_of_findings, facts_option, same_again, tell, told
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.node.admin.container import fetch, start_container
from vantage6.node.admin.following import follow, log_file
from vantage6.node.admin.options import held_by, of_node, title
from vantage6.node.admin.way import Way
from vantage6.node.app import versions
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.develop import missing, own_source
from vantage6.node.dockerized import DEFAULT_IMAGE, as_seen_inside, container_name
from vantage6.node.logs import set_up_logs
from vantage6.node.room import is_full

READY_SECONDS = 60.0


@click.command()
@of_node
@click.option("--image", help=f"The node's image; fetched when there is a newer one. [default: {DEFAULT_IMAGE}]")
@click.option("--local", is_flag=True, help="As a process; so it is for other runtimes than docker.")
@click.option(
    "--develop", is_flag=False, flag_value="", metavar="[SOURCE]",
    help="With the code of SOURCE (the clone that vnode runs from), anew whenever it changes; in the image devcon.",
)  # fmt: skip
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C; for service managers.")
@click.option("--attach", is_flag=True, help="Show the node's log afterwards; Ctrl-C leaves the node running.")
@click.option("--check/--no-check", default=True, help="Look first whether everything that the node needs is there.")
@click.option("--wait", "seconds", default=READY_SECONDS, show_default=True, help="Seconds until it must be online.")
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True)
@click.option("--verbose", is_flag=True, help="Log more.")
@facts_option
@click.option("--dockerized", hidden=True, help="In the container: what tells this node apart.")
def start(
    context: Context, *, image: str | None, local: bool, develop: str | None, foreground: bool, attach: bool,
    check: bool, seconds: float, log_format: str, verbose: bool, dockerized: str | None,
) -> None:  # fmt: skip
    """Start a node, and return when it is online at the server, or say why it is not.

    Examples:

        vnode start --name north

        vnode start --config node.yaml --environment test --attach

        vnode start --name north --develop ~/vantage6 --attach
    """
    if foreground:
        _in_foreground(context, log_format, verbose=verbose, dockerized=dockerized)
        return
    config = load_context(context)
    clone = "" if develop is None else source(develop, config, local=local)
    way = Way(image=image or "", local=local, develop=clone, log_format=log_format, verbose=verbose)
    refuse_second(context, config)
    show_versions(config)
    make_sure(context, config, way, check=check)
    bring_up(context, config, way, seconds)
    if attach:
        follow(context, config)


def make_sure(context: Context, config: NodeConfig, way: Way, *, check: bool) -> None:
    """All that can be known before a node is started."""
    if check:
        _check(context, config)
    if in_container(config, way):
        fetch(config, way.from_image)


def in_container(config: NodeConfig, way: Way) -> bool:
    return config.runtime == "docker" and not way.local


def bring_up(context: Context, config: NodeConfig, way: Way, seconds: float) -> None:
    """Starts it, and says that it is online, or why not."""
    (_as_container if in_container(config, way) else _as_process)(context, config, way, seconds)


def source(given: str, config: NodeConfig, *, local: bool) -> str:
    """The clone whose code is to run."""
    if config.runtime != "docker" or local:
        raise Stop("--develop is for nodes in a container: not with --local, nor with another runtime", Code.USAGE)
    clone = Path(given).expanduser().resolve() if given else own_source()
    if clone is None:
        raise Stop("--develop: say which SOURCE, this vnode does not run from a clone", Code.USAGE)
    if lacks := missing(clone):
        raise Stop(f"--develop: {clone} is no clone of the project, it has no {lacks}", Code.USAGE)
    return str(clone)


def _in_foreground(context: Context, log_format: str, *, verbose: bool, dockerized: str | None) -> None:
    import asyncio  # noqa: PLC0415 - only here

    from vantage6.node.app import serve  # noqa: PLC0415

    try:
        config = load_context(context)
        if dockerized:
            config = as_seen_inside(config, dockerized)
        set_up_logs(log_format, verbose=verbose, file=log_file(config) if dockerized else None)
        way = Way(local=True, log_format=log_format, verbose=verbose)
        facts = {"foreground": not background.awaited(), "dockerized": bool(dockerized), "way": way.kept()}
        asyncio.run(serve(config, context.environment, **facts))
    except (Vantage6Error, OSError, sqlite3.OperationalError) as error:
        text, code = _why(error)
        background.tell_starter(ok=False, message=text, code=int(code))
        raise Stop(f"the node stopped: {text}", code) from error


def _why(error: Vantage6Error | OSError | sqlite3.OperationalError) -> tuple[str, Code]:
    if isinstance(error, sqlite3.OperationalError):
        if is_full(error):
            return f"the disk is full: the journal cannot be written ({error}); make room, and start again", Code.DISK
        return f"the journal cannot be read or written: {error}", Code.FAILED
    return told(error)


def refuse_second(context: Context, config: NodeConfig) -> None:
    """A second start of the same node, before anything is looked at."""
    holder = held_by(context, config)
    if holder is not None:
        raise Stop(
            f"{title(context, config)} runs already (as {holder.get('pid')}, since {holder.get('since')}); "
            "'vnode restart' starts it anew, 'vnode attach' shows its log",
            Code.RUNNING,
        )


def show_versions(config: NodeConfig) -> None:
    shown = "  ".join(f"{name} {number}" for name, number in versions(config.runtime).items() if number)
    terminal.say(f"versions: {shown}")


def _check(context: Context, config: NodeConfig) -> None:
    from vantage6.node import doctor  # noqa: PLC0415 - brings the Docker SDK with it

    report = doctor.run(config, context.document, deep=True)
    for finding in report.findings:
        if finding.outcome == "ok" and finding.what in {"engine", "server"}:
            terminal.say(f"{finding.what}: {finding.detail}")
        if finding.outcome == "warning":
            terminal.warn(f"{finding.what}: {finding.detail}. {finding.fix}")
    bad = [finding for finding in report.findings if finding.outcome == "failed"]
    if bad:
        lines = "\n".join(f"{finding.what}: {finding.detail}. Fix: {finding.fix}" for finding in bad)
        raise Stop(f"{title(context, config)} was not started:\n{lines}", code_of_findings(bad))


def _as_process(context: Context, config: NodeConfig, way: Way, seconds: float) -> None:
    command = [sys.executable, "-m", "vantage6.node.cli", "start", *same_again(context), "--foreground", *way.flags]
    log = log_file(config)
    started = background.start(command, log, seconds)
    what = title(context, config)
    if started.ok:
        facts = started.facts
        _tell(context, config, facts, process=started.pid, log_file=str(log))
        terminal.say(
            f"{what} is online at {config.server_url} as {facts['node']!r} of {facts['organization']!r} in "
            f"collaboration {facts['collaboration']!r} (process {started.pid}); its log: {log}"
        )
    elif started.pid:
        raise Stop(
            f"{what} was started (process {started.pid}) but is not online after {seconds:g} s; it goes on trying. "
            f"The end of its log {log}:\n{_last_words(log)}\nLook with 'vnode check', end it with 'vnode stop'",
            Code.TIMEOUT,
        )
    else:
        why = started.facts.get("message") or "it said nothing"
        text = f"{what} did not start: {why}\nIts log: {log}"
        raise Stop(text, Code(int(started.facts.get("code") or Code.FAILED)))


def _as_container(context: Context, config: NodeConfig, way: Way, seconds: float) -> None:
    if os.getuid() == 0:
        terminal.warn(
            "the node's container runs as root (without its capabilities), because you are root: better start it as a "
            "user of its own, who is in the engine's group (usermod -aG docker USER)"
        )
    started = start_container(context, config, way, seconds)
    what, container, image = title(context, config), container_name(config.name, context.scope), way.from_image
    if started.ok:
        facts = started.facts
        _tell(context, config, facts, container=container, image=image, log_file=str(log_file(config)))
        terminal.say(
            f"{what} is online at {config.server_url} as {facts['node']!r} of {facts['organization']!r} in "
            f"collaboration {facts['collaboration']!r} (container {container} of {image})"
        )
    elif started.pid:
        raise Stop(
            f"{what} was started (container {container}) but is not online after {seconds:g} s; it goes on trying. "
            f"The end of its log:\n{started.facts.get('message') or '(nothing)'}\n"
            "Look with 'vnode check', end it with 'vnode stop'",
            Code.TIMEOUT,
        )
    else:
        why = started.facts.get("message") or "it said nothing"
        raise Stop(f"{what} did not start: {why}", Code(int(started.facts.get("code") or Code.FAILED)))


def _tell(context: Context, config: NodeConfig, facts: Mapping[str, Any], **more: object) -> None:
    about = {key: facts[key] for key in ("node", "organization", "collaboration", "encrypted", "server_version")}
    tell(name=config.name, environment=context.environment, scope=str(context.scope), state="online", **about, **more)


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
