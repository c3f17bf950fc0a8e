"""The site's own record: who asked what, what was decided and why, what left. Lines of JSON, each bound to the last.

Every line holds the SHA-256 of the line before it, so a line that is changed, taken out or put in breaks the chain at
that place. A line that a crash cut short stays, followed by a record that says so. What is cut off at the end cannot
be seen in the file itself: `audit.head`, and the node's log at every start, say how far it went.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vantage6.common.errors import DataLoss

FIRST = "0" * 64
_TAIL = 64 * 1024


class AuditBroken(DataLoss):
    """The record is not as it was written; the message says where."""


@dataclass(frozen=True)
class Head:
    """How far the record goes."""

    count: int
    digest: str


@dataclass
class _Waiting:
    """A record that a thread waits for."""

    record: dict[str, object]
    done: bool = False
    error: Exception | None = None


class Audit:
    """Appends to one file. Each record is on the disk when `write` returns; calls from several threads are fine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._queue: deque[_Waiting] = deque()
        self._head: Head | None = None

    def write(self, event: str, **facts: object) -> None:
        """Adds a record; `facts` are plain values, and never content."""
        own = _Waiting({"event": event, **facts})
        self._queue.append(own)
        with self._lock:
            if not own.done:
                self._write_queued()
        if own.error is not None:
            raise own.error

    def _write_queued(self) -> None:
        """What all threads want written, with one wait for the disk."""
        batch = []
        while self._queue:
            batch.append(self._queue.popleft())
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX)
                head = self._head or self._find_head(descriptor)
                # Until it is done, only the file knows how far it goes: a full disk may leave half a line, or the
                # line without its head.
                self._head = None
                self._head = self._append(descriptor, head, *(each.record for each in batch))
            finally:
                os.close(descriptor)
        except Exception as error:  # noqa: BLE001 - raised in each thread that waits for it
            for each in batch:
                each.error = error
        finally:
            for each in batch:
                each.done = True

    def _find_head(self, descriptor: int) -> Head:
        """Where an earlier life of the node left off; closes a line that it did not finish."""
        size = os.fstat(descriptor).st_size
        if size == 0:
            return Head(0, FIRST)
        kept = os.pread(descriptor, _TAIL, max(0, size - _TAIL))
        *_, last, rest = [b"", b"", *kept.split(b"\n")]
        if rest:
            _write(descriptor, b"\n")
            torn: dict[str, object] = {"event": "torn", "torn": hashlib.sha256(rest).hexdigest()}
            return self._append(descriptor, _head_of(last), torn)
        return _head_of(last)

    def _append(self, descriptor: int, head: Head, *records: dict[str, object]) -> Head:
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        after, lines = head, []
        for record in records:
            whole = {"number": after.count + 1, "time": moment, **record, "before": after.digest}
            lines.append(json.dumps(whole, ensure_ascii=True, default=str).encode())
            after = Head(after.count + 1, hashlib.sha256(lines[-1]).hexdigest())
        _write(descriptor, b"".join(line + b"\n" for line in lines))
        os.fsync(descriptor)
        place = self.path.with_suffix(".head")
        unfinished = place.with_suffix(".new")
        unfinished.write_text(f"{after.count} {after.digest}\n", encoding="ascii")
        unfinished.replace(place)
        return after

    @property
    def head(self) -> Head | None:
        """How far it went when this object last wrote."""
        return self._head


def records(path: Path) -> Iterator[dict[str, Any]]:
    """All records, each checked against the one before it; raises AuditBroken at the first that does not fit."""
    before, count, torn = FIRST, 0, b""
    with path.open("rb") as stream:
        for place, raw in enumerate(stream, start=1):
            line = raw.rstrip(b"\n")
            record = _parsed(line)
            if record is None and not torn:
                torn = line  # Fine only if the next record says so.
                continue
            if record is None or record.get("before") != before or record.get("number") != count + 1:
                raise AuditBroken(f"line {place} does not follow from the one before it: something was changed there")
            if torn and record.get("torn") != hashlib.sha256(torn).hexdigest():
                raise AuditBroken(f"line {place - 1} is no record, and none of a crash")
            before, count, torn = hashlib.sha256(line).hexdigest(), count + 1, b""
            yield record
    if torn:
        raise AuditBroken(f"the last line is no whole record ({len(torn)} bytes); a start of the node marks it")


def verify(path: Path) -> Head:
    """Reads the whole chain; raises AuditBroken where it does not hold, or ends before `audit.head` says."""
    head = Head(0, FIRST)
    seen = {0: FIRST}
    claimed = _claimed(path)
    for record in records(path):
        head = Head(int(record["number"]), _digest_after(record))
        if claimed and head.count == claimed.count:
            seen[head.count] = head.digest
    if claimed and head.count < claimed.count:
        raise AuditBroken(f"{claimed.count} records were written and {head.count} are there: the end was cut off")
    if claimed and seen.get(claimed.count) != claimed.digest:
        raise AuditBroken(f"record {claimed.count} is not the one that was written: the record was made anew")
    return head


def _digest_after(record: dict[str, Any]) -> str:
    # The writer's own form: the same keys in the same order give the same bytes.
    return hashlib.sha256(json.dumps(record, ensure_ascii=True).encode()).hexdigest()


def _claimed(path: Path) -> Head | None:
    place = path.with_suffix(".head")
    if not place.exists():
        return None
    number, _, digest = place.read_text(encoding="ascii").strip().partition(" ")
    return Head(int(number), digest)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _head_of(line: bytes) -> Head:
    record = _parsed(line)
    if record is None:
        return Head(0, FIRST)  # The very first line was cut short.
    return Head(int(record["number"]), hashlib.sha256(line).hexdigest())


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
