"""The options that most commands of `vnode` have, and what follows from them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rich_click as click

from vantage6.common.commands import context_options, environment_option, name_option, scope_option
from vantage6.common.contexts import DEFAULT_SCOPE, Context, Kind, Scope, configurations, every
from vantage6.common.settings import ConfigError
from vantage6.node.app import seat
from vantage6.node.config import NodeConfig, load_context

Known = tuple[Context, NodeConfig]
Unusable = tuple[Path, str, str]
"""File, environment (empty: all of it) and why."""

of_node = context_options(Kind.NODE, DEFAULT_SCOPE[Kind.NODE])
of_scope = scope_option(DEFAULT_SCOPE[Kind.NODE])


@dataclass(frozen=True)
class Which:
    """Which node, where the environment is only a filter: one that runs is found whatever it was started with."""

    name: str | None
    config: Path | None
    environment: str | None
    scope: Scope | None

    def environments(self) -> list[Known]:
        """The environments of one configuration file; raises ConfigError if there is none that can be used."""
        chosen = every(Kind.NODE, name=self.name, config=self.config, environment=self.environment, scope=self.scope)
        return [(context, load_context(context)) for context in chosen]

    def all_known(self) -> tuple[list[Known], list[Unusable]]:
        return known(self.scope)


def of_which(command: Callable[..., None]) -> Callable[..., None]:
    """--name, --config, --environment, --user, --system; the command gets them as `which`."""

    @functools.wraps(command)
    def with_which(
        *args: Any, name: str | None, config: Path | None, environment: str | None, scope: str | None, **more: Any
    ) -> None:
        command(Which(name, config, environment, Scope(scope) if scope else None), *args, **more)

    file = click.Path(dir_okay=False, path_type=Path)
    wrapped: Callable[..., None] = environment_option(of_scope(with_which))
    wrapped = click.option("-c", "--config", type=file, help="A configuration file; wins over --name.")(wrapped)
    return name_option(wrapped)


def title(context: Context, config: NodeConfig) -> str:
    """How messages call a node."""
    return f"node {config.name!r} ({context.environment}, {context.scope})"


def known(scope: Scope | None) -> tuple[list[Known], list[Unusable]]:
    """Every environment of every configuration, and those that cannot be used."""
    good: list[Known] = []
    bad: list[Unusable] = []
    for each in [scope] if scope else list(Scope):
        for path in configurations(Kind.NODE, each):
            try:
                contexts = every(Kind.NODE, name=path.stem, scope=each)
            except ConfigError as error:
                bad.append((path, "", error.message))
                continue
            for context in contexts:
                try:
                    good.append((context, load_context(context)))
                except ConfigError as error:
                    bad.append((path, context.environment, error.message))
    return good, bad


def held_by(context: Context, config: NodeConfig) -> dict[str, Any] | None:
    """The facts of what runs as this node: its container, else a process of this machine."""
    from vantage6.node.admin.container import running  # noqa: PLC0415 - brings the Docker SDK with it

    # In this order: a folder that is shared with the container shows its lock, with a number that means nothing here.
    return running(context, config) or seat(config).holder()


def state(context: Context, config: NodeConfig) -> dict[str, Any]:
    """How a node is doing: `state` is online, connecting or offline."""
    holder = held_by(context, config)
    return {"state": "offline"} if holder is None else {"state": "connecting", **holder}
