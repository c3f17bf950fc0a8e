"""What leaves the site is sealed here, what arrives is opened here, and nowhere else in the node.

An encrypted collaboration takes envelopes only, an unencrypted one takes none: neither is guessed from the content.
"""

from __future__ import annotations

import shutil
from typing import BinaryIO

from vantage6.api.v1.delivery_pb2 import Assignment, Welcome
from vantage6.common.chunks import CHUNK
from vantage6.common.envelope import Binding, Opener, Purpose, Senders, seal, seal_file
from vantage6.common.errors import KeyMissing
from vantage6.common.facts import TaskFacts
from vantage6.common.incoming import Incoming
from vantage6.common.keyring import KeyRing
from vantage6.common.keys import PublicKey
from vantage6.common.trust import KnownOrganizations


class Sealer:
    """The node's keys, and those of the others as this site has pinned them."""

    def __init__(self, keys: KeyRing | None, known: KnownOrganizations, welcome: Welcome) -> None:
        self._keys = keys
        self._known = known
        self.organization_id = welcome.organization_id
        self.organization_name = welcome.organization_name
        self.collaboration_id = welcome.collaboration_id
        self.encrypted = welcome.encrypted

    @property
    def keys(self) -> KeyRing:
        if self._keys is None:
            raise KeyMissing("this node has no key pair, since its collaboration was not encrypted when it started")
        return self._keys

    def key_of(self, organization_id: int, name: str, pem: bytes) -> PublicKey:
        """An organization's key as the server shows it, if it is the one that this site trusts."""
        if not pem:
            raise KeyMissing(f"organization {name!r} has no public key at the server", organization_id=organization_id)
        key = PublicKey.from_pem(pem)
        if organization_id == self.organization_id:
            # Whatever the server shows: who holds a newer key of ours holds this one too (`keyring`).
            return self.keys.public
        self._known.check(organization_id, name, key)
        return key

    def sender(self, organization_id: int, name: str, pem: bytes) -> Senders:
        """Whose signatures are good for this organization: its pinned key's, and those of the keys before it."""
        if organization_id == self.organization_id:
            return self.keys
        if not pem:
            raise KeyMissing(f"organization {name!r} has no public key at the server", organization_id=organization_id)
        return self._known.trusted(organization_id, name, PublicKey.from_pem(pem))

    def vouched(self, run: Assignment) -> bool | None:
        """Whether the initiator vouches for what the server says of the task; None: it vouches for nothing.

        It counts once the input has opened, which is signed for the key that is looked at here.
        """
        if not self.encrypted:
            return None
        return TaskFacts(run.participants, run.image, tuple(run.databases)).agree(run.task_key)

    def incoming_input(self, run: Assignment, target: BinaryIO, limit: int) -> Incoming:
        """Takes the serialized input of a run, signed by its initiator, into a file."""
        opener, party = None, run.initiator
        if self.encrypted:
            by = self.sender(party.organization_id, party.name, party.public_key)
            binding = self._binding(run.task_key, party.organization_id, self.organization_id, Purpose.INPUT)
            opener = Opener(to=self.keys, by=by, binding=binding)
        return Incoming(target, opener, "input", limit)

    def incoming_output(
        self, task_key: str, organization_id: int, by: Senders | None, target: BinaryIO, limit: int
    ) -> Incoming:
        """Takes the output of a subtask at one organization, signed by it, into a file."""
        opener = None
        if by is not None:
            binding = self._binding(task_key, organization_id, self.organization_id, Purpose.OUTPUT)
            opener = Opener(to=self.keys, by=by, binding=binding)
        return Incoming(target, opener, "output", limit)

    def seal_for_initiator(self, run: Assignment, data: bytes, purpose: Purpose) -> bytes:
        """An output, log or progress text of a run, in one piece."""
        if not self.encrypted:
            return data
        to, binding = self._initiator(run, purpose)
        return seal(data, to=to, by=self.keys.current, binding=binding)

    def seal_output(self, run: Assignment, source: BinaryIO, target: BinaryIO) -> None:
        """A large output, from file to file."""
        if not self.encrypted:
            shutil.copyfileobj(source, target, CHUNK)
            return
        to, binding = self._initiator(run, Purpose.OUTPUT)
        seal_file(source, target, to=to, by=self.keys.current, binding=binding)

    def seal_input(self, task_key: str, organization_id: int, key: PublicKey, data: bytes) -> bytes:
        """The input of a subtask for one organization."""
        binding = self._binding(task_key, self.organization_id, organization_id, Purpose.INPUT)
        return seal(data, to=key, by=self.keys.current, binding=binding)

    def _initiator(self, run: Assignment, purpose: Purpose) -> tuple[PublicKey, Binding]:
        party = run.initiator
        key = self.key_of(party.organization_id, party.name, party.public_key)
        return key, self._binding(run.task_key, self.organization_id, party.organization_id, purpose)

    def _binding(self, task_key: str, sender: int, recipient: int, purpose: Purpose) -> Binding:
        return Binding(self.collaboration_id, task_key, sender, recipient, purpose)
