"""Seals what leaves and opens what comes, against pinned keys. Nothing here asks the server to be honest."""

from __future__ import annotations

import asyncio
from typing import IO, TYPE_CHECKING

from vantage6.api.v1 import organization_pb2
from vantage6.client._models import Collaboration, Organization, Task
from vantage6.client._payloads import pieces, spool
from vantage6.common.envelope import Binding, Purpose, looks_sealed, open_chunks, open_sealed, seal_chunks
from vantage6.common.errors import FailedPrecondition, KeyMismatch, KeyMissing, NotSealed
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.common.trust import KnownOrganizations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from vantage6.client._session import Session


class Encryption:
    """The key pair of the own organization and the pinned keys of the others."""

    def __init__(self, session: Session, known: Path) -> None:
        self._session = session
        self._path = known
        self._known: KnownOrganizations | None = None
        self._pair: KeyPair | None = None
        self._own: int = 0

    @property
    def known(self) -> KnownOrganizations:
        if self._known is None:
            self._known = KnownOrganizations(self._path)
        return self._known

    async def set_up(self, path: Path | None, passphrase: str | None, organization_id: int | None) -> None:
        """Takes a key pair into use. The server gets its public half if it has none; another one is an error."""
        self._pair = None
        if path is None:
            return
        if organization_id is None:
            raise FailedPrecondition("root belongs to no organization, so there is no key to use: log in as a user")
        pair = await asyncio.to_thread(KeyPair.load, path, passphrase)
        own = Organization.read(
            await self._session.ask(
                self._session.organizations.GetOrganization, organization_pb2.GetOrganizationRequest(id=organization_id)
            )
        )
        if not own.public_key:
            upload = organization_pb2.UpdateOrganizationRequest(id=own.id, public_key=pair.public.to_pem())
            await self._session.ask(self._session.organizations.UpdateOrganization, upload)
        elif (shown := PublicKey.from_pem(own.public_key)) != pair.public:
            raise KeyMismatch(
                f"the server shows another public key for {own.name} ({shown.fingerprint}) than that of {path} "
                f"({pair.public.fingerprint}): use the key file that the organization's nodes use"
            )
        self._pair, self._own = pair, own.id

    def required(self, collaboration: Collaboration) -> bool:
        """Whether to seal. A server that calls a collaboration plain does not talk a client with a key out of it."""
        if collaboration.encrypted and self._pair is None:
            raise FailedPrecondition(
                f"collaboration {collaboration.name} is encrypted: call setup_encryption with your organization's key"
            )
        if not collaboration.encrypted and self._pair is not None:
            raise NotSealed(
                f"the server says that collaboration {collaboration.name} is not encrypted, and encryption is set up "
                "here: call setup_encryption(None) first if you mean to send in plain"
            )
        return collaboration.encrypted

    async def trust(self, organizations: Sequence[Organization]) -> None:
        """Checks the keys of all before anything is sealed for one; pins none if one is refused."""
        others = [each for each in organizations if each.id != self._own]
        await asyncio.to_thread(lambda: self.known.check_all([(each.id, each.name, _key(each)) for each in others]))

    async def seal(self, data: bytes, to: Organization, collaboration_id: int, task_key: str) -> IO[bytes]:
        """A spooled file with the input for one organization, to be closed by the caller."""
        pair = self._need()
        key = await asyncio.to_thread(self._trusted, to)
        binding = Binding(collaboration_id, task_key, self._own, to.id, Purpose.INPUT)
        return await asyncio.to_thread(lambda: spool(seal_chunks([data], to=key, by=pair, binding=binding)))

    async def open(self, file: IO[bytes], sender: Organization, task: Task) -> bytes:
        """The output of one organization for a task of the own organization; EnvelopeBroken if anything is off."""
        pair = self._need()
        key = await asyncio.to_thread(self._trusted, sender)
        binding = Binding(task.collaboration_id, task.key, sender.id, self._own, Purpose.OUTPUT)

        def opened() -> Iterator[bytes]:
            return open_chunks(pieces(file), to=pair, by=key, binding=binding)

        return await asyncio.to_thread(lambda: b"".join(opened()))

    async def open_line(self, data: bytes, sender: Organization, task: Task) -> bytes:
        """A line on how far a run is; plain ones count for those only who set up no encryption."""
        if self._pair is None:
            return b"" if looks_sealed(data) else data
        key = await asyncio.to_thread(self._trusted, sender)
        binding = Binding(task.collaboration_id, task.key, sender.id, self._own, Purpose.PROGRESS)
        return open_sealed(data, to=self._pair, by=key, binding=binding)

    def _need(self) -> KeyPair:
        if self._pair is None:
            raise FailedPrecondition("this is sealed: call setup_encryption with your organization's key file")
        return self._pair

    def _trusted(self, organization: Organization) -> PublicKey:
        """The organization's key, if it is the one that was pinned; pins it when it is seen first."""
        if organization.id == self._own and self._pair is not None:
            return self._pair.public
        key = _key(organization)
        self.known.check(organization.id, organization.name, key)
        return key


def _key(organization: Organization) -> PublicKey:
    if not organization.public_key:
        raise KeyMissing(
            f"{organization.name} has no public key yet: its node uploads one when it first starts",
            organization_id=organization.id,
        )
    return PublicKey.from_pem(organization.public_key)
