"""`vnode`: the site administrator's command."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path

import click
import structlog

from vantage6.common.errors import Vantage6Error
from vantage6.common.keys import KeyPair
from vantage6.node.app import serve, versions
from vantage6.node.config import NodeConfig, load_config


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Runs a vantage6 node: the part that stays with the data."""


@main.command()
@click.option(
    "--config", "path", required=True, type=click.Path(dir_okay=False, path_type=Path), help="The node's YAML file."
)
@click.option("--log-format", type=click.Choice(["console", "json"]), default="console", show_default=True)
@click.option("--verbose", is_flag=True, help="Log more.")
def start(path: Path, log_format: str, verbose: bool) -> None:
    """Runs a node in the foreground, until Ctrl-C or SIGTERM."""
    _set_up_logs(log_format, verbose)
    try:
        config: NodeConfig = load_config(path)
        asyncio.run(serve(config))
    except Vantage6Error as error:
        raise click.ClickException(f"the node stopped: {error.message}") from error


@main.command("create-private-key")
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
def create_private_key(path: Path) -> None:
    """Makes the key pair of an organization and writes it to PATH, which must not exist."""
    if path.exists():
        raise click.ClickException(
            f"{path} exists and was left alone: what was sealed for it can be opened with it only. Choose another name"
        )
    try:
        keys = KeyPair.generate()
        path.parent.mkdir(parents=True, exist_ok=True)
        keys.save(path)
    except (Vantage6Error, OSError) as error:
        raise click.ClickException(f"no key was made: {error}") from error
    click.echo(f"Private key written to {path} (readable by you only; keep a copy in a safe place).")
    click.echo(f"Fingerprint: {keys.public.fingerprint}")
    click.echo("Next: set 'private_key' in the configurations of all nodes of the organization to this file.")


@main.command()
def version() -> None:
    """Shows the versions of the node and of what it is made of."""
    for name, number in versions("").items():
        if number:
            click.echo(f"{name:14}{number}")


def _set_up_logs(log_format: str, verbose: bool) -> None:
    level = logging.DEBUG if verbose else logging.INFO
    renderer: structlog.types.Processor = (
        structlog.processors.JSONRenderer() if log_format == "json" else structlog.dev.ConsoleRenderer(colors=False)
    )
    # The runtimes and their libraries use the standard library's logging.
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s [%(levelname)s] %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _one_line(_: object, __: str, event: structlog.types.EventDict) -> structlog.types.EventDict:
    """Takes the teeth out of names from elsewhere: no line breaks or terminal escapes in a field."""
    for key, value in event.items():
        if isinstance(value, str) and key != "exception":
            event[key] = "".join(char if char.isprintable() else "?" for char in value)
    return event


if __name__ == "__main__":
    main()
