"""Seals what leaves and opens what comes, against pinned keys. Nothing here asks the server to be honest."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import Collaboration, Organization, Task
from vantage6.client._payloads import Content
from vantage6.common.envelope import (
    Binding,
    Opener,
    Purpose,
    Senders,
    looks_sealed,
    open_sealed,
    seal,
    seal_chunks,
    sealed_size,
)
from vantage6.common.errors import FailedPrecondition, KeyMismatch, KeyMissing, NotSealed
from vantage6.common.keyring import KeyRing, rotate
from vantage6.common.keys import PublicKey
from vantage6.common.trust import KnownOrganizations, digits

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from vantage6.client._session import Session


class Encryption:
    """The key pair of the own organization and the pinned keys of the others."""

    def __init__(self, session: Session, known: Path) -> None:
        self._session = session
        self._path = known
        self._known: KnownOrganizations | None = None
        self._ring: KeyRing | None = None
        self._own: int = 0

    @property
    def known(self) -> KnownOrganizations:
        if self._known is None:
            self._known = KnownOrganizations(self._path)
        return self._known

    async def set_up(self, path: Path | None, passphrase: str | None, organization_id: int | None) -> None:
        """Takes a key pair into use. The server gets its public half if it has none; another one is an error."""
        self._ring = None
        if path is None:
            return
        if organization_id is None:
            raise FailedPrecondition("root belongs to no organization, so there is no key to use: log in as a user")
        ring = await asyncio.to_thread(KeyRing.load, path, passphrase)
        own = Organization.read(
            await self._session.ask(
                self._session.organizations.GetOrganization,
                v1.organization_pb2.GetOrganizationRequest(id=organization_id),
            )
        )
        if not own.public_key:
            await self._upload(own.id, ring.public)
        elif (shown := PublicKey.from_pem(own.public_key)) == ring.public:
            pass
        elif pair := ring.pair(shown.id):  # Rotated in the file only: others cannot know the new key yet.
            ring = KeyRing(pair, ring.current, *ring.earlier)
        else:
            raise KeyMismatch(
                f"the server shows another public key for {own.name} ({shown.fingerprint}) than that of {path} "
                f"({ring.public.fingerprint}): use the key file that the organization's nodes use"
            )
        self._ring, self._own = ring, own.id

    async def rotate(self, path: Path, passphrase: str | None, organization_id: int) -> KeyRing:
        """A new pair in front of the file's others, made known to the server."""
        ring = await asyncio.to_thread(rotate, path, passphrase)
        await self._upload(organization_id, ring.public)
        self._ring, self._own = ring, organization_id
        return ring

    async def _upload(self, organization_id: int, key: PublicKey) -> None:
        request = v1.organization_pb2.UpdateOrganizationRequest(id=organization_id, public_key=key.to_pem())
        await self._session.ask(self._session.organizations.UpdateOrganization, request)

    def required(self, collaboration: Collaboration) -> bool:
        """Whether to seal. A server that calls a collaboration plain does not talk a client with a key out of it."""
        if collaboration.encrypted and self._ring is None:
            raise FailedPrecondition(
                f"collaboration {collaboration.name} is encrypted: call setup_encryption with your organization's key"
            )
        if not collaboration.encrypted and self._ring is not None:
            raise NotSealed(
                f"the server says that collaboration {collaboration.name} is not encrypted, and encryption is set up "
                "here: call setup_encryption(None) first if you mean to send in plain"
            )
        return collaboration.encrypted

    async def trust(self, organizations: Sequence[Organization]) -> None:
        """Checks the keys of all before anything is sealed for one; pins none if one is refused."""
        others = [each for each in organizations if each.id != self._own]
        await asyncio.to_thread(lambda: self.known.check_all([(each.id, each.name, _key(each)) for each in others]))

    async def accept(self, organization: Organization, fingerprint: str, *, compromised: bool) -> None:
        """Pins what the server shows, if it is what somebody has been told."""
        key = _key(organization)
        if digits(fingerprint) != digits(key.fingerprint):
            raise KeyMismatch(
                f"the server shows another key for {organization.name}: {key.fingerprint}. Nothing was accepted. If "
                "you were told the fingerprint by the organization itself, the server or somebody before it is lying"
            )
        accept = partial(self.known.accept, organization.id, organization.name, key, compromised=compromised)
        await asyncio.to_thread(accept)

    def seal(self, content: Content, to: Organization, collaboration_id: int, task_key: str) -> Content:
        """The input for one organization, whose key `trust` has checked; sealed anew each time it is read."""
        ring = self._need()
        key = self._trusted(to)
        binding = Binding(collaboration_id, task_key, self._own, to.id, Purpose.INPUT)
        return Content(
            sealed_size(content.size),
            lambda: seal_chunks(content.pieces(), to=key, by=ring.current, binding=binding),
        )

    def seal_small(
        self, data: bytes, members: Sequence[Organization], collaboration_id: int, task_key: str
    ) -> list[bytes]:
        """Content that is in memory for each of these organizations, whose keys `trust` has checked; blocking."""
        ring = self._need()
        self.known.check_all([(each.id, each.name, _key(each)) for each in members if each.id != self._own])
        bindings = (Binding(collaboration_id, task_key, self._own, each.id, Purpose.INPUT) for each in members)
        keys = (ring.public if each.id == self._own else _key(each) for each in members)
        return [
            seal(data, to=key, by=ring.current, binding=binding) for key, binding in zip(keys, bindings, strict=True)
        ]

    def open_small(self, data: bytes, sender: Organization, task: Task) -> bytes:
        """As `open`, for what is in memory; blocking."""
        ring = self._need()
        binding = Binding(task.collaboration_id, task.key, sender.id, self._own, Purpose.OUTPUT)
        return open_sealed(data, to=ring, by=self._senders(sender), binding=binding)

    def opener(self, sender: Organization, task: Task) -> Opener:
        """For the output of one organization for a task of the own organization; blocking."""
        binding = Binding(task.collaboration_id, task.key, sender.id, self._own, Purpose.OUTPUT)
        return Opener(to=self._need(), by=self._senders(sender), binding=binding)

    async def open_line(
        self, data: bytes, sender: Organization, task: Task, purpose: Purpose = Purpose.PROGRESS
    ) -> bytes:
        """What a run says of itself; plain text counts for those only who set up no encryption."""
        if self._ring is None:
            return b"" if looks_sealed(data) else data
        key = await asyncio.to_thread(self._senders, sender)
        binding = Binding(task.collaboration_id, task.key, sender.id, self._own, purpose)
        return open_sealed(data, to=self._ring, by=key, binding=binding)

    def _need(self) -> KeyRing:
        if self._ring is None:
            raise FailedPrecondition("this is sealed: call setup_encryption with your organization's key file")
        return self._ring

    def _trusted(self, organization: Organization) -> PublicKey:
        """The organization's key, if it is the one that was pinned; pins it when it is seen first."""
        if organization.id == self._own and self._ring is not None:
            return self._ring.public
        key = _key(organization)
        self.known.check(organization.id, organization.name, key)
        return key

    def _senders(self, organization: Organization) -> Senders:
        """As `_trusted`, with the keys that the organization had before: what they signed stays readable."""
        if organization.id == self._own and self._ring is not None:
            return self._ring
        return self.known.trusted(organization.id, organization.name, _key(organization))


def _key(organization: Organization) -> PublicKey:
    if not organization.public_key:
        raise KeyMissing(
            f"{organization.name} has no public key yet: its node uploads one when it first starts",
            organization_id=organization.id,
        )
    return PublicKey.from_pem(organization.public_key)
