"""What leaves the site is sealed here, what arrives is opened here, and nowhere else in the node.

An encrypted collaboration takes envelopes only, an unencrypted one takes none: neither is guessed from the content.
"""

from __future__ import annotations

from collections.abc import Iterator

from vantage6.api.v1.delivery_pb2 import Assignment, Welcome
from vantage6.common.chunks import chunked
from vantage6.common.envelope import Binding, Purpose, looks_sealed, open_sealed, seal, seal_chunks
from vantage6.common.errors import KeyChanged, KeyMissing, NotSealed
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.common.trust import KnownOrganizations


class Sealer:
    """The node's keys, and those of the others as this site has pinned them."""

    def __init__(self, keys: KeyPair | None, known: KnownOrganizations, welcome: Welcome) -> None:
        self._keys = keys
        self._known = known
        self.organization_id = welcome.organization_id
        self.organization_name = welcome.organization_name
        self.collaboration_id = welcome.collaboration_id
        self.encrypted = welcome.encrypted

    @property
    def keys(self) -> KeyPair:
        if self._keys is None:
            raise KeyMissing("this node has no key pair, since its collaboration was not encrypted when it started")
        return self._keys

    def key_of(self, organization_id: int, name: str, pem: bytes) -> PublicKey:
        """An organization's key as the server shows it, if it is the one that this site trusts."""
        if not pem:
            raise KeyMissing(f"organization {name!r} has no public key at the server", organization_id=organization_id)
        key = PublicKey.from_pem(pem)
        if organization_id == self.organization_id:
            if key != self.keys.public:
                raise KeyChanged(f"the server shows another key for the own organization {name!r} than this node's")
        else:
            self._known.check(organization_id, name, key)
        return key

    def open_input(self, run: Assignment, data: bytes) -> bytes:
        """The serialized input of a run, signed by its initiator."""
        self._check_sealed(data, "input")
        if not self.encrypted:
            return data
        sender = run.initiator
        key = self.key_of(sender.organization_id, sender.name, sender.public_key)
        binding = self._binding(run.task_key, sender.organization_id, self.organization_id, Purpose.INPUT)
        return open_sealed(data, to=self.keys, by=key, binding=binding)

    def seal_for_initiator(self, run: Assignment, data: bytes, purpose: Purpose) -> bytes:
        """An output, log or progress text of a run, in one piece."""
        if not self.encrypted:
            return data
        to, binding = self._initiator(run, purpose)
        return seal(data, to=to, by=self.keys, binding=binding)

    def seal_output(self, run: Assignment, data: bytes) -> Iterator[bytes]:
        """A large output, piece by piece."""
        if not self.encrypted:
            return chunked(data)
        to, binding = self._initiator(run, Purpose.OUTPUT)
        return seal_chunks(chunked(data), to=to, by=self.keys, binding=binding)

    def seal_input(self, task_key: str, organization_id: int, key: PublicKey, data: bytes) -> bytes:
        """The input of a subtask for one organization."""
        binding = self._binding(task_key, self.organization_id, organization_id, Purpose.INPUT)
        return seal(data, to=key, by=self.keys, binding=binding)

    def open_output(self, task_key: str, organization_id: int, key: PublicKey | None, data: bytes) -> bytes:
        """The output of a subtask at one organization, signed by it."""
        self._check_sealed(data, "output")
        if key is None:
            return data
        binding = self._binding(task_key, organization_id, self.organization_id, Purpose.OUTPUT)
        return open_sealed(data, to=self.keys, by=key, binding=binding)

    def _initiator(self, run: Assignment, purpose: Purpose) -> tuple[PublicKey, Binding]:
        party = run.initiator
        key = self.key_of(party.organization_id, party.name, party.public_key)
        return key, self._binding(run.task_key, self.organization_id, party.organization_id, purpose)

    def _binding(self, task_key: str, sender: int, recipient: int, purpose: Purpose) -> Binding:
        return Binding(self.collaboration_id, task_key, sender, recipient, purpose)

    def _check_sealed(self, data: bytes, what: str) -> None:
        if looks_sealed(data) == self.encrypted:
            return
        if self.encrypted:
            raise NotSealed(f"the {what} is not sealed, which an encrypted collaboration demands; it was not used")
        raise NotSealed(f"the {what} is sealed, but the collaboration is not encrypted; send it as it is")
