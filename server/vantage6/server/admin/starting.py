"""`vserver start`, `stop`, `attach`."""

from __future__ import annotations

import platform
import sys

import rich_click as click
import structlog
import uvloop
from sqlalchemy.exc import SQLAlchemyError

from vantage6.common import background, terminal
from vantage6.common.commands import Code, Stop, facts_option, same_again, show, tell, told
from vantage6.common.contexts import Context
from vantage6.common.errors import Vantage6Error
from vantage6.server import CONTRACT_VERSION, __version__
from vantage6.server.admin.options import database_failure, log_file, of_server, seat, title
from vantage6.server.config import ServerConfig, load_context
from vantage6.server.domain.secrets import WeakSecretError
from vantage6.server.logs import set_up_logs
from vantage6.server.store.migrate import SchemaUnknownError, expected_revision

log = structlog.get_logger(__name__)

READY_SECONDS = 60.0
STOP_SECONDS = 30.0


@click.command()
@of_server
@click.option("--foreground", is_flag=True, help="Stay in this terminal until Ctrl-C; for service managers.")
@click.option("--attach", is_flag=True, help="Show the server's log afterwards; Ctrl-C leaves the server running.")
@click.option("--wait", "seconds", default=READY_SECONDS, show_default=True, help="Seconds until it must listen.")
@facts_option
def start(context: Context, *, foreground: bool, attach: bool, seconds: float) -> None:
    """Start a server, and return when it listens, or say why it does not.

    The first start makes the user `root` and prints the password, once.

    Examples:

        vserver start --name central

        vserver start --config server.yaml --environment test --attach
    """
    config = load_context(context)
    if foreground:
        _in_foreground(context, config)
        return
    holder = seat(context, config).holder()
    if holder is not None:
        raise Stop(f"{title(context)} runs already (process {holder.get('pid')})", Code.RUNNING)
    terminal.say(
        f"versions: server {__version__}  contract {CONTRACT_VERSION}  schema {expected_revision()}  "
        f"python {platform.python_version()}"
    )
    _in_background(context, config, seconds)
    if attach:
        follow(context, config)


def _in_foreground(context: Context, config: ServerConfig) -> None:
    # Here and not above: `vserver version` should not wait for everything else to be imported.
    from vantage6.server.app import Server, serve  # noqa: PLC0415

    set_up_logs(config.log_level)

    def ready(server: Server) -> None:
        background.tell_starter(ok=True, address=config.address, port=server.port)

    try:
        with seat(context, config).taken("server", environment=context.environment, address=config.address):
            log.info(
                "starting", name=config.name, address=config.address, version=__version__, contract=CONTRACT_VERSION,
                schema=expected_revision(), python=platform.python_version(), environment=context.environment,
            )  # fmt: skip
            uvloop.run(serve(config, ready))
    except (Vantage6Error, WeakSecretError, SchemaUnknownError, SQLAlchemyError, OSError) as error:
        text, code = _why(error)
        background.tell_starter(ok=False, message=text, code=int(code))
        raise Stop(f"the server stopped: {text}", code) from error
    except KeyboardInterrupt:
        log.info("stopped")


def _why(error: Exception) -> tuple[str, Code]:
    if isinstance(error, SQLAlchemyError | ConnectionError):  # asyncpg's are the latter.
        return database_failure(error)
    if isinstance(error, Vantage6Error | OSError):
        return told(error)
    return str(error), Code.SCHEMA if isinstance(error, SchemaUnknownError) else Code.CONFIG


def _in_background(context: Context, config: ServerConfig, seconds: float) -> None:
    command = [sys.executable, "-m", "vantage6.server.cli", "start", *same_again(context), "--foreground"]
    words = log_file(context, config)
    started = background.start(command, words, seconds)
    if password := started.facts.get("root_password"):
        tell(root_password=password)
        show(f"First start: user 'root' was made, with the password\n\n    {password}\n\nIt is not shown again.")
    if started.ok:
        address = f"{config.address.rpartition(':')[0]}:{started.facts['port']}"
        tell(name=config.name, environment=context.environment, scope=str(context.scope), address=address,
             process=started.pid, log_file=str(words))  # fmt: skip
        terminal.say(f"{title(context)} listens on {address} (process {started.pid}); its log: {words}")
        terminal.say("nodes and people reach it through the gateway, which brings the TLS: python -m vantage6.gateway")
        return
    if started.pid:
        text = f"{title(context)} was started (process {started.pid}) but does not listen after {seconds:g} s: {words}"
        raise Stop(text, Code.TIMEOUT)
    why = started.facts.get("message") or "it said nothing"
    code = Code(int(started.facts.get("code") or Code.FAILED))
    raise Stop(f"{title(context)} did not start: {why}\nIts log: {words}", code)


@click.command()
@of_server
@facts_option
def stop(context: Context) -> None:
    """Stop a server. Nodes connect again by themselves when it is back.

    Example: vserver stop --name central
    """
    config = load_context(context)
    place = seat(context, config)
    if place.holder() is None:
        raise Stop(f"{title(context)} does not run; there was nothing to stop", Code.NOT_RUNNING)
    if not place.stop(STOP_SECONDS):
        raise Stop(f"{title(context)} has not ended within {STOP_SECONDS:g} s; its log says why", Code.TIMEOUT)
    tell(stopped=[title(context)])
    terminal.say(f"{title(context)} has stopped")


@click.command()
@of_server
def attach(context: Context) -> None:
    """Show the log of a server that runs; Ctrl-C leaves the server running.

    Example: vserver attach --name central
    """
    config = load_context(context)
    if seat(context, config).holder() is None:
        raise Stop(f"{title(context)} does not run; its last log: {log_file(context, config)}", Code.NOT_RUNNING)
    follow(context, config)


def follow(context: Context, config: ServerConfig) -> None:
    words = log_file(context, config)
    try:
        background.follow(words, lambda line: click.echo(terminal.harmless(line)), seat(context, config))
    except KeyboardInterrupt:
        terminal.say("left; the server goes on ('vserver stop' ends it)")
