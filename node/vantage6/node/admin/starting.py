"""`vnode start`, `stop`, `restart`, `attach`: a node in the background, in a container or as a process."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rich_click as click

from vantage6.common import background, terminal
from vantage6.common.commands import Code, Stop, code_of, facts_option, same_again, tell
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.common.findings import Finding
from vantage6.node.admin.container import follow_container, running, start_container, stop_container
from vantage6.node.admin.options import Which, of_node, of_which, title
from vantage6.node.app import seat, versions
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.develop import missing, own_source
from vantage6.node.dockerized import DEFAULT_IMAGE, DEVELOPMENT_IMAGE, as_seen_inside, container_name
from vantage6.node.logs import set_up_logs

READY_SECONDS = 60.0
STOP_SECONDS = 30.0


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
    source = None if develop is None else _source(develop, config, local=local)
    refuse_second(context, config)
    _show_versions(config)
    if check:
        _check(context, config)
    flags = ["--log-format", log_format, *(["--verbose"] if verbose else [])]
    if config.runtime == "docker" and not local:
        standard = DEFAULT_IMAGE if source is None else DEVELOPMENT_IMAGE
        _as_container(context, config, image or standard, flags, seconds, source)
    else:
        _as_process(context, config, flags, seconds)
    if attach:
        follow(context, config)


def _source(given: str, config: NodeConfig, *, local: bool) -> Path:
    """The clone whose code is to run."""
    if config.runtime != "docker" or local:
        raise Stop("--develop is for nodes in a container: not with --local, nor with another runtime", Code.USAGE)
    source = Path(given).expanduser().resolve() if given else own_source()
    if source is None:
        raise Stop("--develop: say which SOURCE, this vnode does not run from a clone", Code.USAGE)
    if lacks := missing(source):
        raise Stop(f"--develop: {source} is no clone of the project, it has no {lacks}", Code.USAGE)
    return source


def _in_foreground(context: Context, log_format: str, *, verbose: bool, dockerized: str | None) -> None:
    import asyncio  # noqa: PLC0415 - only here

    from vantage6.node.app import serve  # noqa: PLC0415

    try:
        config = load_context(context)
        if dockerized:
            config = as_seen_inside(config, dockerized)
        set_up_logs(log_format, verbose=verbose, file=log_file(config) if dockerized else None)
        asyncio.run(serve(config, context.environment))
    except Vantage6Error as error:
        background.tell_starter(ok=False, message=error.message, code=int(code_of(error)))
        raise Stop(f"the node stopped: {error.message}", code_of(error)) from error


def refuse_second(context: Context, config: NodeConfig) -> None:
    """A second start of the same node, before anything is looked at."""
    holder = seat(config).holder() or running(context, config)
    if holder is not None:
        raise Stop(
            f"{title(context, config)} runs already (as {holder.get('pid')}, since {holder.get('since')}); "
            "'vnode restart' starts it anew, 'vnode attach' shows its log",
            Code.RUNNING,
        )


def _show_versions(config: NodeConfig) -> None:
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


def code_of_findings(bad: list[Finding]) -> Code:
    """The exit code for what the doctor found."""
    kinds = {finding.kind for finding in bad}
    for kind, code in (("engine", Code.ENGINE), ("unreachable", Code.UNREACHABLE), ("refused", Code.REFUSED)):
        if kind in kinds:
            return code
    return Code.CONFIG if all(finding.what.startswith("environment") for finding in bad) else Code.CHECK


def log_file(config: NodeConfig) -> Path:
    return config.log_dir / f"{config.name}.log"


def _as_process(context: Context, config: NodeConfig, flags: list[str], seconds: float) -> None:
    command = [sys.executable, "-m", "vantage6.node.cli", "start", *same_again(context), "--foreground", *flags]
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


def _as_container(
    context: Context, config: NodeConfig, image: str, flags: list[str], seconds: float, source: Path | None = None
) -> None:
    started = start_container(context, config, image, flags, seconds, source)
    what, container = title(context, config), container_name(config.name, context.scope)
    if started.ok:
        facts = started.facts
        _tell(context, config, facts, container=container, image=image, log_file=str(log_file(config)))
        terminal.say(
            f"{what} is online at {config.server_url} as {facts['node']!r} of {facts['organization']!r} in "
            f"collaboration {facts['collaboration']!r} (container {container} of {image})"
        )
    elif started.pid:
        text = f"{what} was started (container {container}) but is not online after {seconds:g} s; it goes on trying"
        raise Stop(text, Code.TIMEOUT)
    else:
        why = started.facts.get("message") or "it said nothing"
        raise Stop(f"{what} did not start: {why}", Code(int(started.facts.get("code") or Code.FAILED)))


def _tell(context: Context, config: NodeConfig, facts: Mapping[str, Any], **more: object) -> None:
    about = {key: facts[key] for key in ("node", "organization", "collaboration", "encrypted", "server_version")}
    tell(name=config.name, environment=context.environment, scope=str(context.scope), state="online", **about, **more)


def _last_words(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])


@click.command()
@of_which
@click.option("--all", "every", is_flag=True, help="All nodes of these folders that run.")
@facts_option
def stop(which: Which, *, every: bool) -> None:
    """Stop a node. Algorithms that run go on, and the next start takes them up again.

    Example: vnode stop --name north
    """
    chosen = which.all_known() if every else which.environments()
    stopped = [title(context, config) for context, config in chosen if halt(context, config)]
    tell(stopped=stopped)
    for what in stopped:
        terminal.say(f"{what} has stopped")
    if not stopped:
        names = "no node" if every else ", ".join(title(context, config) for context, config in chosen)
        raise Stop(f"{names} {'runs' if every else 'does not run'}; there was nothing to stop", Code.NOT_RUNNING)


def halt(context: Context, config: NodeConfig) -> bool:
    """Ends the node, however it was started; False if it does not run."""
    place = seat(config)
    holder = place.holder()
    if holder is None:
        return stop_container(context, config)
    if not place.stop(STOP_SECONDS):
        raise Stop(
            f"{title(context, config)} (process {holder.get('pid')}) has not ended within {STOP_SECONDS:g} s; "
            "its log says what it is waiting for",
            Code.TIMEOUT,
        )
    return True


@click.command()
@of_node
@click.option("--wait", "seconds", default=READY_SECONDS, show_default=True, help="Seconds until it must be online.")
@click.option("--image", help="The node's image.")
@click.option("--local", is_flag=True, help="As a process without a container.")
@facts_option
def restart(context: Context, *, seconds: float, image: str | None, local: bool) -> None:
    """Stop a node if it runs, and start it.

    Example: vnode restart --name north
    """
    config = load_context(context)
    if halt(context, config):
        terminal.say(f"{title(context, config)} has stopped")
    _show_versions(config)
    _check(context, config)
    if config.runtime == "docker" and not local:
        _as_container(context, config, image or DEFAULT_IMAGE, [], seconds)
    else:
        _as_process(context, config, [], seconds)


@click.command()
@of_which
def attach(which: Which) -> None:
    """Show the log of a node that runs; Ctrl-C leaves the node running.

    Example: vnode attach --name north
    """
    chosen = which.environments()
    found = [each for each in chosen if seat(each[1]).holder() or running(*each)]
    if not found:
        context, config = chosen[0]
        raise Stop(f"{title(context, config)} does not run; its last log: {log_file(config)}", Code.NOT_RUNNING)
    follow(*found[0])


def follow(context: Context, config: NodeConfig) -> None:
    try:
        if seat(config).holder() is None:
            follow_container(context, config)
            return
        background.follow(log_file(config), lambda line: click.echo(terminal.harmless(line)), seat(config))
    except KeyboardInterrupt:
        terminal.say("left; the node goes on ('vnode stop' ends it)")
