"""`python -m vantage6.gateway --config FILE`."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from pathlib import Path

import click
from pydantic import ValidationError

from vantage6.common.errors import Vantage6Error
from vantage6.common.monitoring import Watched, monitored
from vantage6.gateway.config import GatewayConfig, load
from vantage6.gateway.render import render
from vantage6.gateway.run import Gateway


@click.command()
@click.option("--config", "file", required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("-e", "--environment", default="", help="Of a file that has several, as for the server.")
@click.option("--print", "only_print", is_flag=True, help="Print Envoy's configuration and start nothing.")
def main(file: Path, environment: str, *, only_print: bool) -> None:
    """Run the gateway: gRPC and REST on one port, in front of the servers.

    FILE is its own configuration, or the server's with a section `gateway:`.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    try:
        config = load(file, environment)
        if only_print:
            click.echo(json.dumps(render(config), indent=2))
            return
        code = asyncio.run(_serve(config))
    except (ValidationError, OSError) as error:
        raise click.ClickException(f"{file}: {error}") from error
    except Vantage6Error as error:
        raise click.ClickException(error.message) from error
    sys.exit(code)


async def _serve(config: GatewayConfig) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with (
        Gateway(config) as gateway,
        monitored(config.monitoring, Watched(gateway.metrics, gateway.why_not_ready)),
    ):
        click.echo(f"gateway ready on {gateway.url}", err=True)
        ended = asyncio.create_task(gateway.wait())
        asked = asyncio.create_task(stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not stop.is_set():
            click.echo("Envoy ended by itself; its last words are above", err=True)
            return 1
    return await ended


if __name__ == "__main__":
    main()
