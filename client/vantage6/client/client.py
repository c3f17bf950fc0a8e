"""The client for programs that are asynchronous themselves; `Client` is its blocking twin."""

from __future__ import annotations

import asyncio
import io
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

import platformdirs

from vantage6.api.v1 import result_pb2, system_pb2
from vantage6.client._encryption import Encryption
from vantage6.client._models import Organization, Result, Task, TaskResult, User, WhoAmI
from vantage6.client._parties import Collaborations, Nodes, Organizations
from vantage6.client._payloads import Target, ValueFile, download, pieces, spool
from vantage6.client._people import Roles, Users
from vantage6.client._session import Session
from vantage6.client._tasks import Results, Tasks
from vantage6.client._waiting import Waiting
from vantage6.common.channel import Endpoint
from vantage6.common.envelope import MIN_SIZE, looks_sealed
from vantage6.common.errors import FailedPrecondition, NotFound, NotSealed
from vantage6.common.keys import KeyPair
from vantage6.common.serialization import deserialize

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType


class AsyncClient:
    """A researcher's connection to a server.

    `url` is `https://host:port`; `ca_file` a PEM bundle to trust instead of the system's. `known_organizations` is the
    file in which the organizations' keys are pinned; unless given, one for each server in the user's configuration.
    """

    def __init__(
        self, url: str, ca_file: str | Path | None = None, *, known_organizations: str | Path | None = None
    ) -> None:
        endpoint = Endpoint(url, Path(ca_file) if ca_file else None)
        self._session = Session(endpoint)
        known = Path(known_organizations) if known_organizations else _default_known(endpoint)
        self._encryption = Encryption(self._session, known)
        self._whoami: WhoAmI | None = None
        self.organization = Organizations(self._session)
        self.collaboration = Collaborations(self._session)
        self.node = Nodes(self._session)
        self.user = Users(self._session)
        self.role = Roles(self._session)
        self.task = Tasks(self._session, self._encryption)
        self.result = Results(self._session)
        self._waiting = Waiting(self._session, self._encryption, self.task, self.result)

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
        return (await self._session.ask(self._session.system.GetVersion, system_pb2.GetVersionRequest())).version

    async def authenticate(self, username: str, password: str, mfa_code: str | None = None) -> WhoAmI:
        """Logs in. SecondFactorRequired asks for `mfa_code`; tokens are renewed from then on."""
        await self._encryption.set_up(None, None, None)
        answer = await self._session.log_in(username, password, mfa_code)
        user = await self._own_user(answer.user_url, username)
        name = (await self.organization.get(user.organization_id)).name if user.organization_id else ""
        self._whoami = WhoAmI(user.id, user.username, user.organization_id, name)
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
        pair = KeyPair.generate()
        await asyncio.to_thread(pair.save, Path(path), passphrase)
        return pair.public.fingerprint

    async def wait(self, task: Task | int, progress: bool = True, timeout: float | None = None) -> Task:  # noqa: ASYNC109
        """Waits until a task is complete and returns it. With `progress`, shows on a terminal how each site is doing.

        `timeout` in seconds ends the waiting with DeadlineExceeded; the task goes on.
        """
        return await self._waiting.wait(task, progress=progress, timeout=timeout)

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
        known = await self.task.get(task) if isinstance(task, int) else task
        async for id in self._waiting.final_results(known.id):  # noqa: A001
            message = await self._session.ask(self._session.results.GetResult, result_pb2.GetResultRequest(id=id))
            yield await self._opened(message, known, Path(folder) if folder else None)

    async def _opened(self, message: result_pb2.Result, task: Task, folder: Path | None) -> TaskResult:
        result = Result.read(message)
        sender = await self.organization.get(result.organization_id)
        if result.task_id != task.id:
            raise NotFound(f"the server gave a result of task {result.task_id} for task {task.id}")
        value, path = None, None
        if message.HasField("output_content") and folder:
            path = await self._saved(message, sender, task, folder)
        elif message.HasField("output_content"):
            whole = io.BytesIO()
            await self._content(message, sender, task, whole)
            value = await asyncio.to_thread(lambda: deserialize(whole.getvalue()))
        return TaskResult(sender.id, sender.name, result.state, result.reason, result.message, value, path)

    async def _saved(self, message: result_pb2.Result, sender: Organization, task: Task, folder: Path) -> Path:
        """The file with the output, which has its name only once all of it has arrived and is authentic."""
        await asyncio.to_thread(lambda: folder.mkdir(parents=True, exist_ok=True))
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as file:
            part = Path(file.name)
            try:
                target = ValueFile(file)
                await self._content(message, sender, task, target)
                file.close()
                return await asyncio.to_thread(part.replace, folder / f"{task.id}-{sender.id}.{target.format}")
            except BaseException:
                await asyncio.to_thread(part.unlink, missing_ok=True)
                raise

    async def _content(self, message: result_pb2.Result, sender: Organization, task: Task, target: Target) -> None:
        content = message.output_content
        if content.WhichOneof("place") == "payload_id":
            file = await download(self._session, content.payload_id)
        else:
            file = spool([content.inline])
        with file:
            where = await self.collaboration.get(task.collaboration_id)
            if self._encryption.required(where):
                await self._encryption.open(file, sender, task, target)
                return
            if looks_sealed(await asyncio.to_thread(file.read, MIN_SIZE)):
                raise NotSealed(f"{sender.name} sent something sealed in a collaboration that is not encrypted")
            await asyncio.to_thread(lambda: [target.write(piece) for piece in pieces(file)])

    async def _own_user(self, url: str, username: str) -> User:
        number = url.rstrip("/").rpartition("/")[2]
        if number.isdigit():
            return await self.user.get(int(number))
        async for user in self.user.list(username=username):
            return user
        raise NotFound(f"the server does not show the user {username}")


def _default_known(endpoint: Endpoint) -> Path:
    """Ids of organizations mean something at one server only, so each server has a file of its own."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", endpoint.target)
    return platformdirs.user_config_path("vantage6", appauthor=False) / "known_organizations" / f"{name}.json"
