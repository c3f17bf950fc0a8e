"""Where `v6` goes, and as whom: options, the environment, or what `v6 login` has written down."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import rich_click as click

from vantage6.client import Client
from vantage6.client.errors import SecondFactorRequired, Unauthenticated
from vantage6.common.commands import Code, Stop

FILE = click.Path(dir_okay=False, path_type=Path)
Command = TypeVar("Command", bound=Callable[..., None])


@dataclass(frozen=True)
class Place:
    """A server, and the files that go with it; nothing secret."""

    server: str = ""
    ca_file: str = ""
    key: str = ""
    known_organizations: str = ""

    def over(self, other: Place) -> Place:
        """This one, filled up with another; another server's files are no good here."""
        if self.server and other.server != self.server:
            return self
        mine, theirs = asdict(self), asdict(other)
        return Place(**{name: value or theirs[name] for name, value in mine.items()})


def folder() -> Path:
    return platformdirs.user_config_path("vantage6", appauthor=False) / "v6"


def remembered() -> Place:
    """What the last `v6 login` went to."""
    with suppress(FileNotFoundError, ValueError, TypeError):
        found = json.loads((folder() / "place.json").read_text(encoding="utf-8"))
        return Place(**{each.name: str(found.get(each.name, "")) for each in fields(Place)})
    return Place()


def remember(place: Place) -> None:
    folder().mkdir(parents=True, exist_ok=True, mode=0o700)
    text = json.dumps(asdict(place), indent=2)
    (folder() / "place.json").write_text(text + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Connection:
    """Opens clients for one command."""

    place: Place
    username: str

    def open(self) -> Client:
        place = self.place
        if not place.server:
            raise Stop("no server is known: v6 login --server https://server.example", Code.USAGE)
        return Client(
            place.server,
            ca_file=place.ca_file or None,
            known_organizations=place.known_organizations or None,
            login_file=folder() / "login.json",
        )

    @contextmanager
    def client(self, *, opening: bool = False) -> Iterator[Client]:
        """A client that is logged in; with `opening`, one that can seal and open if there is a key."""
        password = os.environ.get("VANTAGE6_PASSWORD")
        with self.open() as client:
            if self.username and password:
                log_in(client, self.username, password, None)
            else:
                self._resume(client)
            if opening and self.place.key:
                client.setup_encryption(self.place.key, os.environ.get("VANTAGE6_KEY_PASSPHRASE"))
            yield client

    def _resume(self, client: Client) -> None:
        try:
            client.resume()
        except Unauthenticated:
            raise Stop(f"nobody is logged in at {self.place.server}: v6 login", Code.REFUSED) from None


def log_in(client: Client, username: str, password: str, code: str | None) -> None:
    """Asks for the second factor where the server wants one."""
    try:
        client.authenticate(username, password, code)
    except SecondFactorRequired:
        code = os.environ.get("VANTAGE6_MFA_CODE") or click.prompt("Code", hide_input=True, err=True)
        client.authenticate(username, password, code)


def connected(command: Command) -> Command:
    """The options that every command has; it gets a Connection for them."""
    options = (
        click.option("--server", envvar="VANTAGE6_SERVER", default="", help="Such as https://server.example."),
        click.option("--ca-file", envvar="VANTAGE6_CA_FILE", type=FILE, help="Trust these authorities instead."),
        click.option("-u", "--username", envvar="VANTAGE6_USERNAME", default="", help="Who logs in."),
        click.option("--key", envvar="VANTAGE6_KEY", type=FILE, help="Key file of the organization: seals and opens."),
        click.option(
            "--known-organizations",
            "known",
            envvar="VANTAGE6_KNOWN_ORGANIZATIONS",
            type=FILE,
            help="File of pinned keys.",
        ),
        click.option("--no-key", is_flag=True, help="Send in plain, to a collaboration that is not encrypted."),
    )

    @functools.wraps(command)
    def with_connection(
        *args: Any,
        server: str,
        ca_file: Path | None,
        username: str,
        key: Path | None,
        known: Path | None,
        no_key: bool,
        **more: Any,
    ) -> None:
        files = [str(each.absolute()) if each else "" for each in (ca_file, key, known)]
        place = Place(server, *files).over(remembered())
        command(Connection(replace(place, key="") if no_key else place, username), *args, **more)

    return functools.reduce(lambda inner, option: option(inner), reversed(options), with_connection)  # type: ignore[return-value]
