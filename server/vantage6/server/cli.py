"""`vserver`: starts the server."""

from __future__ import annotations

from pathlib import Path

import click
import structlog
import uvloop

from vantage6.server import CONTRACT_VERSION, __version__
from vantage6.server.config import ConfigError, load_config
from vantage6.server.domain.secrets import WeakSecretError
from vantage6.server.logs import set_up_logs
from vantage6.server.store.migrate import SchemaUnknownError, expected_revision

log = structlog.get_logger(__name__)


@click.group()
def main() -> None:
    """The central server: knows who takes part, hands out tasks, never computes and never sees the data."""


@main.command(name="version")
def show_version() -> None:
    """Prints the versions of the server, the contract and the database schema."""
    click.echo(f"vantage6-grpc {__version__}, contract {CONTRACT_VERSION}, schema {expected_revision()}")


@main.command()
@click.option(
    "--config",
    "path",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Configuration file (YAML).",
)
def start(path: Path) -> None:
    """Starts the server and runs until it is told to stop (SIGTERM, Ctrl-C)."""
    # Here and not above: `vserver version` should not wait for everything else to be imported.
    from vantage6.server.app import serve  # noqa: PLC0415

    try:
        config = load_config(path)
        set_up_logs(config.log_level)
        log.info(
            "starting",
            name=config.name,
            address=config.address,
            version=__version__,
            contract=CONTRACT_VERSION,
            schema=expected_revision(),
        )
        uvloop.run(serve(config))
    except (ConfigError, WeakSecretError, SchemaUnknownError) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        log.info("stopped")


if __name__ == "__main__":
    main()
