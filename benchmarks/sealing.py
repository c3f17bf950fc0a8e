"""Sealing and opening, against plain AES-256-GCM of the same library in chunks of the same size, on one core."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.harness import Bench, Row, Samples, Table
from vantage6.common.chunks import CHUNK
from vantage6.common.envelope import Binding, Purpose, open_chunks, seal_chunks
from vantage6.common.keys import KeyPair

BAR = 0.5


def speed(work: Callable[[], object], size: int) -> float:
    begun = time.perf_counter()
    work()
    return size / (time.perf_counter() - begun) / 1e6


def consume(chunks: Iterator[bytes]) -> int:
    return sum(len(chunk) for chunk in chunks)


async def run(bench: Bench) -> Table:
    count = bench.repeat(256, 64)
    size = count * CHUNK
    chunk = os.urandom(CHUNK)
    cipher = AESGCM(os.urandom(32))
    sender, recipient = KeyPair.generate(), KeyPair.generate()
    binding = Binding(1, "task", 1, 2, Purpose.INPUT)
    plain = cipher.encrypt(bytes(12), chunk, None)
    sealed = list(seal_chunks([chunk] * count, to=recipient.public, by=sender, binding=binding))

    def encrypt() -> None:
        for number in range(count):
            cipher.encrypt(number.to_bytes(12, "big"), chunk, None)

    def decrypt() -> None:
        for _ in range(count):
            cipher.decrypt(bytes(12), plain, None)

    def seal() -> None:
        consume(seal_chunks((chunk for _ in range(count)), to=recipient.public, by=sender, binding=binding))

    def open_() -> None:
        consume(open_chunks(iter(sealed), to=recipient, by=sender.public, binding=binding))

    works = (encrypt, seal, decrypt, open_)
    values: list[list[float]] = [[] for _ in works]
    for turn in range(bench.repeat(9, 4)):
        for own, work in zip(values, works, strict=True):
            figure = speed(work, size)
            if turn:  # The first one warms up.
                own.append(figure)
    aes, sealing, unaes, opening = (Samples(tuple(own), "MB/s") for own in values)
    rows = [
        Row("AES-256-GCM, encrypt", aes),
        Row("seal", sealing, aes, BAR, at_least=True),
        Row("AES-256-GCM, decrypt", unaes),
        Row("open", opening, unaes, BAR, at_least=True),
    ]
    note = "Beyond the cipher: one signature and key encapsulation, and when opening a copy of each chunk."
    return Table(f"envelope: {count} MiB in chunks of 1 MiB, against the bare cipher", rows, [note])
