"""What must not open, does not: moved, relabelled, cut, reordered, edited, or by somebody else."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest

from vantage6.common.chunks import CHUNK
from vantage6.common.envelope import HEADER_SIZE, Binding, Purpose, open_chunks, open_file, open_sealed, seal
from vantage6.common.errors import EnvelopeBroken
from vantage6.common.keys import KeyPair, PublicKey

pytestmark = [pytest.mark.attack("X07"), pytest.mark.row("M34")]

PIECE = CHUNK + 16
CONTENT = bytes(3 * CHUNK) + b"end"


@pytest.fixture(scope="module")
def sealed(sender: KeyPair, recipient: KeyPair, binding: Binding) -> bytes:
    return seal(CONTENT, to=recipient.public, by=sender, binding=binding)


def parts(sealed: bytes) -> tuple[bytes, list[bytes]]:
    body = sealed[HEADER_SIZE:]
    return sealed[:HEADER_SIZE], [body[at : at + PIECE] for at in range(0, len(body), PIECE)]


def every_way(data: bytes, to: KeyPair, by: PublicKey, binding: Binding) -> bytes:
    """Opens in memory, as a stream and as a file, which must agree, also in the error."""
    ways: tuple[Callable[[], bytes], ...] = (
        lambda: open_sealed(data, to=to, by=by, binding=binding),
        lambda: b"".join(open_chunks([data], to=to, by=by, binding=binding)),
        lambda: from_file(data, to, by, binding),
    )
    said: list[bytes | EnvelopeBroken] = []
    for way in ways:
        try:
            said.append(way())
        except EnvelopeBroken as error:
            said.append(error)
    assert len({str(each) if isinstance(each, EnvelopeBroken) else each for each in said}) == 1, said
    if isinstance(said[0], EnvelopeBroken):
        raise said[0]
    return said[0]


def from_file(data: bytes, to: KeyPair, by: PublicKey, binding: Binding) -> bytes:
    target = io.BytesIO()
    open_file(io.BytesIO(data), target, to=to, by=by, binding=binding)
    return target.getvalue()


class Crime:
    """A recipient and a sender whose keys the independent implementation can misuse."""

    def __init__(self, reference: ModuleType, binding: Binding) -> None:
        self.reference, self.binding = reference, binding
        self.to, self.by, self.forger = reference.Keys(), reference.Keys(), reference.Keys()
        self.fields = {name: getattr(binding, name) for name in Binding.__slots__}

    def sealing(self, **changes: Any) -> Any:
        return self.reference.Sealing(**{"to": self.to, "by": self.by, "binding": self.fields, **changes})

    def open(self, data: bytes) -> bytes:
        to, by = KeyPair.from_pem(self.to.pem()), KeyPair.from_pem(self.by.pem())
        return every_way(data, to, by.public, self.binding)


@pytest.fixture
def crime(reference: ModuleType, binding: Binding) -> Crime:
    return Crime(reference, binding)


def cause(error: pytest.ExceptionInfo[EnvelopeBroken]) -> str:
    return error.value.metadata["cause"]


@pytest.mark.parametrize(
    "change",
    [
        {"collaboration_id": 8},
        {"task_key": "task-2"},
        {"sender_id": 4},
        {"recipient_id": 13},
        {"purpose": Purpose.OUTPUT},
        {"purpose": Purpose.LOG},
        {"sender_id": 12, "recipient_id": 3},
    ],
)
def test_moved_or_relabelled(
    sealed: bytes, sender: KeyPair, recipient: KeyPair, binding: Binding, change: dict[str, Any]
) -> None:
    elsewhere = dataclasses.replace(binding, **change)
    with pytest.raises(EnvelopeBroken, match="sealed for another collaboration, task") as error:
        open_sealed(sealed, to=recipient, by=sender.public, binding=elsewhere)
    assert cause(error) == "binding"


def test_moved_with_its_label(sealed: bytes, sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    """The thief writes the new place's digest into the header."""
    elsewhere = dataclasses.replace(binding, task_key="task-2")
    moved = sealed[:42] + elsewhere.digest + sealed[74:]
    with pytest.raises(EnvelopeBroken) as error:
        open_sealed(moved, to=recipient, by=sender.public, binding=elsewhere)
    assert cause(error) == "signature"


def test_moved_and_signed_anew(crime: Crime) -> None:
    """A thief with an account signs somebody else's content key and body as his own, and relabels them."""
    stolen = crime.sealing()
    header = stolen.header()
    body = stolen.body(header, b"secret")
    crime.by = crime.forger
    head = header[:26] + crime.forger.fingerprint()[:16] + header[42:1242]
    head += crime.forger.ed25519.sign(b"vantage6 envelope v1 header\0" + head)
    with pytest.raises(EnvelopeBroken) as error:
        crime.open(head + b"".join(body))
    assert cause(error) == "key"


def test_content_key_of_another_place_under_a_new_signature(crime: Crime) -> None:
    """The sender himself is tricked into signing a header with the wrapped key of another task."""
    other = crime.sealing(binding={**crime.fields, "task_key": "task-2"})
    head = crime.sealing().header()[:74] + other.header()[74:1242]
    head += crime.by.ed25519.sign(b"vantage6 envelope v1 header\0" + head)
    with pytest.raises(EnvelopeBroken) as error:
        crime.open(head + b"".join(other.body(head, b"secret")))
    assert cause(error) == "key"


def test_body_of_another_place_under_the_same_key(crime: Crime) -> None:
    """A careless sender used one content key for two tasks: even then a body does not move."""
    here = crime.sealing()
    there = crime.sealing(binding={**crime.fields, "task_key": "task-2"}, key=here.key)
    with pytest.raises(EnvelopeBroken) as error:
        crime.open(here.header() + b"".join(there.body(there.header(), b"secret")))
    assert cause(error) == "chunk"


def test_body_under_another_header_of_the_same_place_and_key(crime: Crime) -> None:
    """A body belongs to one header, to the byte: not even a header that wraps the same key anew will do."""
    sealing = crime.sealing()
    one, two = sealing.header(), sealing.header()
    with pytest.raises(EnvelopeBroken) as error:
        crime.open(one + b"".join(sealing.body(two, b"secret")))
    assert cause(error) == "chunk"


def test_for_somebody_else(sealed: bytes, sender: KeyPair, stranger: KeyPair, binding: Binding) -> None:
    with pytest.raises(EnvelopeBroken, match="outdated or wrong key") as error:
        open_sealed(sealed, to=stranger, by=sender.public, binding=binding)
    assert cause(error) == "recipient"


def test_for_somebody_else_and_relabelled(sealed: bytes, sender: KeyPair, stranger: KeyPair, binding: Binding) -> None:
    moved = sealed[:10] + stranger.public.id + sealed[26:]
    with pytest.raises(EnvelopeBroken) as error:
        open_sealed(moved, to=stranger, by=sender.public, binding=binding)
    assert cause(error) == "signature"


def test_by_somebody_else(sealed: bytes, recipient: KeyPair, stranger: KeyPair, binding: Binding) -> None:
    with pytest.raises(EnvelopeBroken, match="somebody else, or of an old key") as error:
        open_sealed(sealed, to=recipient, by=stranger.public, binding=binding)
    assert cause(error) == "sender"


def test_by_somebody_else_under_the_senders_name(crime: Crime) -> None:
    """Everything is right and the header names the sender; only the signatures are the forger's."""
    forged = crime.sealing(by=crime.forger, claims=crime.by.fingerprint()).seal(b"forged")
    with pytest.raises(EnvelopeBroken) as error:
        crime.open(forged)
    assert cause(error) == "signature"


def test_nothing_is_released_before_the_senders_signature_held(crime: Crime) -> None:
    forged = crime.sealing(by=crime.forger, claims=crime.by.fingerprint()).seal(CONTENT)
    to, by = KeyPair.from_pem(crime.to.pem()), KeyPair.from_pem(crime.by.pem())
    opened = open_chunks([forged], to=to, by=by.public, binding=crime.binding)
    with pytest.raises(EnvelopeBroken):
        next(opened)


def test_another_body_by_somebody_who_does_not_know_the_content_key(crime: Crime) -> None:
    """The server keeps the sender's header and writes a body of its own; it can only guess the key."""
    honest, forged = crime.sealing(), crime.sealing(key=bytes(32))
    header = honest.header()
    with pytest.raises(EnvelopeBroken) as error:
        crime.open(header + b"".join(forged.body(header, b"forged")))
    assert cause(error) == "chunk"


def test_cut_at_every_boundary(sealed: bytes, sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    header, chunks = parts(sealed)
    assert len(chunks) == 4
    for kept in range(len(chunks)):
        for end in (b"", chunks[kept][:16], chunks[kept][:-1]):
            data = b"".join([header, *chunks[:kept], end])
            with pytest.raises(EnvelopeBroken):
                every_way(data, recipient, sender.public, binding)
            opened = open_chunks([data], to=recipient, by=sender.public, binding=binding)
            out: list[bytes] = []
            with pytest.raises(EnvelopeBroken):
                out.extend(opened)
            assert sum(map(len, out)) <= kept * CHUNK


@pytest.mark.parametrize("keep", [0, 1, 8, 10, 74, 1242, HEADER_SIZE - 1, HEADER_SIZE, HEADER_SIZE + 15])
def test_cut_early(sealed: bytes, sender: KeyPair, recipient: KeyPair, binding: Binding, keep: int) -> None:
    with pytest.raises(EnvelopeBroken, match="too early") as error:
        every_way(sealed[:keep], recipient, sender.public, binding)
    assert cause(error) == "size"


def test_chunks_swapped_repeated_or_dropped(crime: Crime) -> None:
    sealing = crime.sealing()
    header = sealing.header()
    one, two, three, last = sealing.body(header, CONTENT)
    for body in (
        [two, one, three, last],
        [one, one, two, three, last],
        [one, three, last],
        [one, two, three],
        [one, two, three, last, last],
    ):
        with pytest.raises(EnvelopeBroken) as error:
            crime.open(header + b"".join(body))
        assert cause(error) == "chunk"


def test_an_empty_last_chunk_is_not_what_a_sealer_writes(crime: Crime) -> None:
    sealing = crime.sealing()
    header = sealing.header()
    body = [sealing.chunk(header, bytes(CHUNK), 0, last=False), sealing.chunk(header, b"", 1, last=True)]
    with pytest.raises(EnvelopeBroken, match="empty chunk"):
        crime.open(header + b"".join(body))


def test_chunks_of_two_envelopes_do_not_mix(crime: Crime) -> None:
    one, two = crime.sealing(), crime.sealing()
    header = one.header()
    body = one.body(header, CONTENT)
    body[1] = two.body(two.header(), CONTENT)[1]
    with pytest.raises(EnvelopeBroken):
        crime.open(header + b"".join(body))


def test_every_byte_counts(sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    sealed = seal(b"x", to=recipient.public, by=sender, binding=binding)
    for at in range(len(sealed)):
        edited = bytearray(sealed)
        edited[at] ^= 0x40
        with pytest.raises(EnvelopeBroken):
            open_sealed(bytes(edited), to=recipient, by=sender.public, binding=binding)


@pytest.mark.parametrize("extra", [b"\0", bytes(64), bytes(PIECE)])
def test_bytes_behind_the_end(
    sealed: bytes, sender: KeyPair, recipient: KeyPair, binding: Binding, extra: bytes
) -> None:
    with pytest.raises(EnvelopeBroken):
        every_way(sealed + extra, recipient, sender.public, binding)


@pytest.mark.parametrize(
    ("start", "says"),
    [
        (b"\xf6V6SEAL\n\x02\x01", "version 2"),
        (b"\xf6V6SEAL\n\x00\x01", "version 0"),
        (b"\xf6V6SEAL\n\x01\x02", "suite 2"),
        (b"\xf6V6SEAL\r\n\x01", "no envelope"),
    ],
)
def test_another_version_or_suite_is_refused_by_name_though_well_signed(crime: Crime, start: bytes, says: str) -> None:
    with pytest.raises(EnvelopeBroken, match=says):
        crime.open(crime.sealing(start=start).seal(b"x"))


@pytest.mark.row("M36")
def test_plain_content_is_no_envelope(sender: KeyPair, recipient: KeyPair, binding: Binding) -> None:
    plain = b'json.{"method": "average"}' * 100
    with pytest.raises(EnvelopeBroken, match="plain"):
        open_sealed(plain, to=recipient, by=sender.public, binding=binding)
