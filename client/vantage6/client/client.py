"""The client for programs that are asynchronous themselves; `Client` is its blocking twin."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Self

from vantage6.client import _contract as v1
from vantage6.client._access import SecondFactors, Sessions
from vantage6.client._login import LoginFile
from vantage6.client._models import LogLine, Task, TaskResult, User, WhoAmI
from vantage6.client._parties import Collaborations, Nodes, Organizations
from vantage6.client._people import Roles, Users
from vantage6.client._session import Session
from vantage6.client._tasks import Results, Tasks
from vantage6.client._waiting import Waiting
from vantage6.client.legacy import Legacy
from vantage6.common.channel import Endpoint
from vantage6.common.errors import FailedPrecondition, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from vantage6.client._logs import Logs


class AsyncClient(Legacy):
    """A researcher's connection to a server.

    `url` is `https://host:port`, or without the port, which then comes second, as in 1.x; `path` is where the REST API
    is below it. `ca_file` is a PEM bundle to trust instead of the system's. `known_organizations` is the file in which
    the organizations' keys are pinned; unless given, one for each server in the user's configuration. With
    `login_file`, a log-in outlives the program: `resume` goes on with it.
    """

    def __init__(
        self,
        url: str,
        port: int | None = None,
        path: str = "/api",
        *,
        ca_file: str | Path | None = None,
        known_organizations: str | Path | None = None,
        login_file: str | Path | None = None,
    ) -> None:
        from vantage6.client._encryption import Encryption  # noqa: PLC0415 - cryptography takes long to load

        endpoint = Endpoint(f"{url}:{port}" if port else url, Path(ca_file) if ca_file else None)
        self.path = path.rstrip("/")
        self._session = Session(endpoint, LoginFile(Path(login_file)) if login_file else None)
        known = Path(known_organizations) if known_organizations else _default_known(endpoint)
        self._encryption = Encryption(self._session, known)
        self._whoami: WhoAmI | None = None
        self.organization = Organizations(self._session)
        self.collaboration = Collaborations(self._session)
        self.node = Nodes(self._session)
        self.user = Users(self._session)
        self.role = Roles(self._session)
        self.session = Sessions(self._session)
        self.second_factor = SecondFactors(self._session)
        self.task = Tasks(self._session, self._encryption)
        self.result = Results(self._session)
        self._waiting = Waiting(self._session, self._encryption, self.task, self.result)
        self.result._follow = self.logs  # noqa: SLF001 - it stands on what comes after it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connection; the log-in stays good on the server until it expires or `log_out` ends it."""
        await self._session.close()

    async def version(self) -> str:
        """The server's version."""
        return (await self._session.ask(self._session.system.GetVersion, v1.system_pb2.GetVersionRequest())).version

    async def authenticate(self, username: str, password: str, mfa_code: str | None = None) -> WhoAmI:
        """Logs in. SecondFactorRequired asks for `mfa_code`; tokens are renewed from then on."""
        await self._encryption.set_up(None, None, None)
        answer = await self._session.log_in(username, password, mfa_code)
        user = await self._own_user(answer.user_url, username)
        name = (await self.organization.get(user.organization_id)).name if user.organization_id else ""
        self._whoami = WhoAmI(user.id, user.username, user.organization_id, name)
        await self._session.remember(**dataclasses.asdict(self._whoami))
        return self._whoami

    async def resume(self) -> WhoAmI:
        """Goes on with the log-in that is in `login_file`. Unauthenticated if there is none, or it has ended."""
        found = await self._session.resume()
        self._whoami = WhoAmI(found.user_id, found.username, found.organization_id, found.organization_name)
        return self._whoami

    async def log_out(self) -> None:
        """Ends the log-in at the server."""
        await self._session.log_out()
        self._whoami = None

    @property
    def whoami(self) -> WhoAmI:
        if self._whoami is None:
            raise FailedPrecondition("nobody is logged in: call authenticate")
        return self._whoami

    async def setup_encryption(self, path: str | Path | None, passphrase: str | None = None) -> None:
        """Takes the organization's key file into use; None goes back to sending in plain.

        The server gets the public half if it has none for the organization; KeyMismatch if it has another one.
        """
        await self._encryption.set_up(Path(path) if path else None, passphrase, self.whoami.organization_id)

    async def create_private_key(self, path: str | Path, passphrase: str | None = None) -> str:
        """Makes a key file for the organization, never over another one, and returns its fingerprint."""
        from vantage6.common.keys import KeyPair  # noqa: PLC0415 - as above

        pair = KeyPair.generate()
        await asyncio.to_thread(pair.save, Path(path), passphrase)
        return pair.public.fingerprint

    async def wait(self, task: Task | int, progress: bool = True, timeout: float | None = None) -> Task:  # noqa: ASYNC109
        """Waits until a task is complete and returns it. With `progress`, shows on a terminal how each site is doing.

        `timeout` in seconds ends the waiting with DeadlineExceeded; the task goes on.
        """
        return await self._waiting.wait(task, progress=progress, timeout=timeout)

    async def logs(self, task: Task | int, result: int | None = None) -> AsyncIterator[LogLine]:
        """What the task's runs print, as they print it, where the site shares it (`share_logs`); ends with the task.

        With a `result`, only of that one. What was printed before is there as far as it is kept: the last lines.
        """
        known = await self.task.get(task) if isinstance(task, int) else task
        async with aclosing(self._logs(known).lines(result)) as lines:
            async for line in lines:
                yield line

    def _logs(self, task: Task) -> Logs:
        from vantage6.client._logs import Logs  # noqa: PLC0415 - as above

        return Logs(self._session, self._encryption, self._waiting, task)

    async def rotate_private_key(self, path: str | Path, passphrase: str | None = None) -> str:
        """Makes a new key pair for the organization, in front of the others in its file; returns its fingerprint.

        What was sealed for the earlier ones still opens with this file: copy it to the organization's nodes and users.
        The other organizations must accept the new fingerprint.
        """
        organization = self.whoami.organization_id
        if organization is None:
            raise FailedPrecondition("root belongs to no organization, so there is no key to rotate: log in as a user")
        return (await self._encryption.rotate(Path(path), passphrase, organization)).public.fingerprint

    async def trust(self, organization: int, fingerprint: str, *, compromised: bool = False) -> None:
        """Accepts an organization's key, after its fingerprint was compared over another channel than this server.

        KeyMismatch if the server shows another one. What was signed with the key before stays readable, unless that
        key is `compromised`.
        """
        await self._encryption.accept(await self.organization.get(organization), fingerprint, compromised=compromised)

    async def trusted(self) -> dict[int, str]:
        """The fingerprints that are pinned, by organization id."""
        return await asyncio.to_thread(self._encryption.known.fingerprints)

    async def results(self, task: Task | int, folder: str | Path | None = None) -> AsyncIterator[TaskResult]:
        """What each organization returned, opened and checked, as it arrives; ends when the task is complete.

        A site that failed gives a result with its reason. EnvelopeBroken when anything was tampered with. With a
        `folder`, outputs of any size go into files there, named by task, organization and format.
        """
        from vantage6.client._harvest import Harvest  # noqa: PLC0415 - as above

        known = await self.task.get(task) if isinstance(task, int) else task
        into = Path(folder) if folder else None
        harvest = Harvest(self._session, self._encryption, known, into)
        async with aclosing(self._waiting.final_results(known.id)) as batches:
            async for ids in batches:
                async for result in harvest.take(ids):
                    yield result

    async def _own_user(self, url: str, username: str) -> User:
        number = url.rstrip("/").rpartition("/")[2]
        if number.isdigit():
            return await self.user.get(int(number))
        async for user in self.user.list(username=username):
            return user
        raise NotFound(f"the server does not show the user {username}")


def _default_known(endpoint: Endpoint) -> Path:
    """Ids of organizations mean something at one server only, so each server has a file of its own."""
    import platformdirs  # noqa: PLC0415 - needed only where no file is named

    name = re.sub(r"[^A-Za-z0-9.-]", "_", endpoint.target)
    return platformdirs.user_config_path("vantage6", appauthor=False) / "known_organizations" / f"{name}.json"
