"""`vnode stop` and `vnode restart`."""

from __future__ import annotations

from pathlib import Path

import rich_click as click

from vantage6.common import terminal
from vantage6.common.background import Seat
from vantage6.common.commands import Code, Stop, facts_option, tell
from vantage6.common.contexts import DEFAULT_SCOPE, Context, Kind, Scope, find, folders
from vantage6.common.settings import ConfigError
from vantage6.node.admin.container import looked_up, stop_container, stop_named
from vantage6.node.admin.following import follow
from vantage6.node.admin.options import Known, Unusable, Which, held_by, of_which, title
from vantage6.node.admin.starting import READY_SECONDS, bring_up, make_sure, show_versions, source
from vantage6.node.admin.way import Way
from vantage6.node.app import seat
from vantage6.node.config import NodeConfig
from vantage6.node.dockerized import container_name

STOP_SECONDS = 30.0


@click.command()
@of_which
@click.option("--all", "every", is_flag=True, help="All nodes of these folders that run.")
@facts_option
def stop(which: Which, *, every: bool) -> None:
    """Stop a node. Algorithms that run go on, and the next start takes them up again.

    Example: vnode stop --name north
    """
    good, bad = which.all_known() if every else _named(which)
    stopped = [title(context, config) for context, config in good if halt(context, config)]
    for path, environment, why in bad:
        if _halt_unread(path):
            stopped.append(f"node {path.stem!r}")
        terminal.warn(f"cannot be used: {path} {environment}\n{why}")
    tell(stopped=stopped, unusable=[str(path) for path, _, _ in bad])
    for what in stopped:
        terminal.say(f"{what} has stopped")
    if not stopped:
        _nothing_stopped(good, bad, every=every)


def _named(which: Which) -> tuple[list[Known], list[Unusable]]:
    """What runs can be stopped although its configuration has been spoilt meanwhile."""
    try:
        return which.environments(), []
    except ConfigError as error:
        scope = which.scope or DEFAULT_SCOPE[Kind.NODE]
        path = which.config or folders(Kind.NODE, scope).config / f"{which.name}.yaml"
        if (which.config or which.name) is None or not _runs_unread(path):
            raise
        return [], [(path, "", error.message)]


def _nothing_stopped(good: list[Known], bad: list[Unusable], *, every: bool) -> None:
    if bad:
        files = ", ".join(str(path) for path, _, _ in bad)
        raise Stop(f"nothing was found that runs by the names of {files}; what else they start cannot be known. "
                   "No other node runs", Code.CONFIG)  # fmt: skip
    names = "no node" if every else ", ".join(title(context, config) for context, config in good)
    raise Stop(f"{names} {'runs' if every else 'does not run'}; there was nothing to stop", Code.NOT_RUNNING)


def halt(context: Context, config: NodeConfig) -> bool:
    """Ends the node, however it was started; False if it does not run."""
    if stop_container(context, config):
        return True
    place = seat(config)
    holder = place.holder()
    if holder is None:
        return False
    if holder.get("dockerized"):
        raise Stop(f"{title(context, config)} runs in a container, and the Docker engine does not answer", Code.ENGINE)
    _end(place, title(context, config))
    return True


def _end(place: Seat, what: str) -> None:
    holder = place.holder() or {}
    if not place.stop(STOP_SECONDS):
        raise Stop(
            f"{what} (process {holder.get('pid')}) has not ended within {STOP_SECONDS:g} s; "
            "its log says what it is waiting for",
            Code.TIMEOUT,
        )


def _places_unread(path: Path) -> tuple[str, list[Seat]]:
    """Where a node is that is called as its file, and has its things where they are unless the file says otherwise."""
    scope = Scope.SYSTEM if path.parent == folders(Kind.NODE, Scope.SYSTEM).config else Scope.USER
    data = folders(Kind.NODE, scope).data / path.stem
    return container_name(path.stem, scope), [Seat(folder / "lock") for folder in (data, *data.glob("*/"))]


def _runs_unread(path: Path) -> bool:
    name, seats = _places_unread(path)
    return any(place.holder() for place in seats) or looked_up(_unread(path), name) is not None


def _halt_unread(path: Path) -> bool:
    name, seats = _places_unread(path)
    found = [place for place in seats if (holder := place.holder()) and not holder.get("dockerized")]
    for place in found:
        _end(place, f"node {path.stem!r}")
    return stop_named(_unread(path), name) or bool(found)


def _unread(path: Path) -> NodeConfig:
    """In place of settings that cannot be read: the usual engine."""
    return NodeConfig(name=path.stem, server_url="https://unknown.invalid")


@click.command()
@of_which
@click.option("--wait", "seconds", default=READY_SECONDS, show_default=True, help="Seconds until it must be online.")
@click.option("--image", help="Another image for the node.")
@click.option("--local/--container", default=None, help="As a process without a container, or in one.")
@click.option(
    "--develop", is_flag=False, flag_value="", metavar="[SOURCE]", help="With the code of SOURCE, as of 'vnode start'."
)
@click.option("--attach", is_flag=True, help="Show the node's log afterwards; Ctrl-C leaves the node running.")
@click.option("--check/--no-check", default=True, help="Look first whether everything that the node needs is there.")
@click.option("--log-format", type=click.Choice(["console", "json"]), help="Another form of its log.")
@click.option("--verbose/--quiet", default=None, help="Log more, or as usual.")
@facts_option
def restart(
    which: Which, *, seconds: float, image: str | None, local: bool | None, develop: str | None, attach: bool,
    check: bool, log_format: str | None, verbose: bool | None,
) -> None:  # fmt: skip
    """Start a node anew, with the options that it was started with, but for those that are given here.

    It is stopped only when all else is known to be good. One that does not run is started.

    Examples:

        vnode restart --name north

        vnode restart --name north --image registry.example/vantage6/node:2
    """
    context, config = _which_runs(which)
    before = held_by(context, config)
    if before is not None and before.get("foreground"):
        raise Stop(f"{title(context, config)} runs in the foreground of a terminal or a service manager (process "
                   f"{before.get('pid')}): restart it there", Code.RUNNING)  # fmt: skip
    way = Way.of(before).changed(image=image, local=local, log_format=log_format, verbose=verbose)
    if develop is not None:
        way = way.changed(develop=source(develop, config, local=way.local))
    show_versions(config)
    try:
        make_sure(context, config, way, check=check)
    except Stop as error:
        if before is None:
            raise
        raise Stop(
            f"{error.message}\n{title(context, config)} was not stopped, it goes on as it was", error.code
        ) from error
    if halt(context, config):
        terminal.say(f"{title(context, config)} has stopped")
    bring_up(context, config, way, seconds)
    if attach:
        follow(context, config)


def _which_runs(which: Which) -> Known:
    """The environment that runs; where none does, the one that would be started."""
    chosen = which.environments()
    found = [each for each in chosen if held_by(*each)]
    if len(found) > 1:
        names = ", ".join(context.environment for context, _ in found)
        raise Stop(f"several environments of this node run: say --environment with one of {names}", Code.USAGE)
    if found:
        return found[0]
    context = find(Kind.NODE, name=which.name, config=which.config, environment=which.environment, scope=which.scope)
    return next(each for each in chosen if each[0].environment == context.environment)
