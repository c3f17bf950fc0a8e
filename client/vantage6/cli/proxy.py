"""`v6 proxy`: end-to-end encryption for programs in any language, on the researcher's own machine."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
from contextlib import suppress
from pathlib import Path

import rich_click as click

from vantage6.cli.connection import FILE, Connection, connected, folder
from vantage6.client.bridge import Bridge
from vantage6.client.errors import Unauthenticated
from vantage6.common import terminal
from vantage6.common.commands import Code, Stop


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="On 127.0.0.1; any free one unless given.")
@click.option("--file", type=FILE, help="Where address and token are written; in the configuration unless given.")
@connected
def proxy(connection: Connection, port: int, file: Path | None) -> None:
    """Serve the REST API on this machine, sealing inputs and opening results with your organization's key.

    For programs in R, JavaScript or anything else that speaks HTTP; it goes on until it is stopped. They find its
    address and its token, which is a new one each time, in a file that only you can read.

    Example: v6 proxy --key private_key.pem
    """
    asyncio.run(_serve(connection, port, file or folder() / "proxy.json"))


async def _serve(connection: Connection, port: int, file: Path) -> None:
    from vantage6.cli.userproxy import UserProxy  # noqa: PLC0415 - slow to load, and for this command only

    place, token = connection.place, secrets.token_urlsafe(32)
    if not place.server:
        raise Stop("no server is known: v6 login --server https://server.example", Code.USAGE)
    client = Bridge(
        place.server,
        ca_file=place.ca_file or None,
        known_organizations=place.known_organizations or None,
        login_file=folder() / "login.json",
    )
    async with client:
        await _log_in(client, connection)
        if place.key:
            await client.setup_encryption(place.key, os.environ.get("VANTAGE6_KEY_PASSPHRASE"))
        served = UserProxy(
            client, place.server, Path(place.ca_file) if place.ca_file else None, token, sealing=bool(place.key)
        )
        stopped = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        try:
            address = f"http://127.0.0.1:{await served.start(port)}"
            await asyncio.to_thread(_write, file, {"url": address, "token": token})
            kind = "inputs are sealed, results opened" if place.key else "nothing is sealed: no key was given"
            terminal.say(f"{client.whoami.username} at {place.server}: {address}; {kind}")
            terminal.say(f"address and token are in {file}")
            await stopped.wait()
        finally:
            await asyncio.to_thread(_remove, file, token)
            await served.stop()


async def _log_in(client: Bridge, connection: Connection) -> None:
    password = os.environ.get("VANTAGE6_PASSWORD")
    if connection.username and password:
        await client.authenticate(connection.username, password, os.environ.get("VANTAGE6_MFA_CODE"))
        return
    try:
        await client.resume()
    except Unauthenticated:
        raise Stop(f"nobody is logged in at {connection.place.server}: v6 login", Code.REFUSED) from None


def _write(file: Path, content: dict[str, str]) -> None:
    """As a whole, and open to nobody else from the first byte on."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = file.with_name(f".{file.name}.{os.getpid()}")
    with suppress(FileNotFoundError):
        part.unlink()
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(content, stream)
    part.replace(file)


def _remove(file: Path, token: str) -> None:
    """Unless another proxy has taken its place."""
    with suppress(OSError, ValueError):
        if json.loads(file.read_text(encoding="utf-8")).get("token") == token:
            file.unlink()
