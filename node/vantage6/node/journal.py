"""What must survive `kill -9`: assignments, how far they are, and reports that the server has not yet accepted.

An SQLite file with WAL and full synchronisation, used from one thread of its own so that a slow disk never holds up the
stream. A method returns when its change is on the disk.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from vantage6.api.v1.delivery_pb2 import Assignment, Report
from vantage6.common.faults import point
from vantage6.node.room import with_room
from vantage6.node.states import ASSIGNED, FINAL, State

T = TypeVar("T")
Key = tuple[int, int]
"""Result id and epoch."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS run (
  result_id INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, assignment BLOB NOT NULL, state INTEGER NOT NULL,
  token TEXT NOT NULL, digest TEXT
);
CREATE TABLE IF NOT EXISTS report (
  id INTEGER PRIMARY KEY AUTOINCREMENT, result_id INTEGER NOT NULL, epoch INTEGER NOT NULL, state INTEGER NOT NULL,
  report BLOB NOT NULL, upload TEXT
);
"""
_SAID = "DELETE FROM report WHERE result_id = ? AND epoch = ? AND state = ?"


@dataclass(frozen=True)
class Entry:
    """One assignment that is not yet done with."""

    assignment: Assignment
    state: State
    # What the container shows to the proxy.
    token: str
    # Of the image, from the moment on at which the runtime was told to start it: it must not be started again.
    digest: str | None

    @property
    def key(self) -> Key:
        return self.assignment.result_id, self.assignment.epoch


@dataclass(frozen=True)
class Pending:
    """A report that is not accepted; `upload` is the sealed output that has to be uploaded before."""

    id: int
    report: Report
    upload: Path | None

    @property
    def key(self) -> Key:
        return self.report.result_id, self.report.epoch


class Journal:
    """The node's own book of its runs."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        # Accepted reports of runs that go on; forgotten with the next change, since saying them again does no harm.
        self._said: list[tuple[int, int, int]] = []
        self._queue: deque[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]] = deque()
        self._db = self._thread.submit(_open, path).result()

    async def _do(self, work: Callable[[sqlite3.Connection], T]) -> T:
        done: Future[T] = Future()
        self._queue.append((work, done))
        self._thread.submit(self._do_queued)
        # Shielded: the thread goes on anyway, and half a wait must not look like half a change.
        return await asyncio.shield(asyncio.wrap_future(done))

    def _do_queued(self) -> None:
        """All that waits in one transaction: one wait for the disk is enough for all of them."""
        batch: list[tuple[Callable[[sqlite3.Connection], Any], Future[Any]]] = []
        while self._queue:
            work, done = self._queue.popleft()
            if done.set_running_or_notify_cancel():
                batch.append((work, done))
        try:
            values = self._transaction([work for work, _ in batch])
        except BaseException as error:  # noqa: BLE001 - it is for who asked
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for work, done in batch:
                try:
                    done.set_result(self._transaction([work])[0])
                except BaseException as own:  # noqa: BLE001 - likewise
                    done.set_exception(own)
            return
        for (_, done), value in zip(batch, values, strict=True):
            done.set_result(value)

    def _transaction(self, works: list[Callable[[sqlite3.Connection], Any]]) -> list[Any]:
        if not works:
            return []
        with self._db:
            if self._said:
                said, self._said = self._said, []
                self._db.executemany(_SAID, said)
            return [work(self._db) for work in works]

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Waits for room on a full disk: how a run ended is not known to anybody else."""

        def attempt(db: sqlite3.Connection) -> T:
            point("node.journal.write")
            return work(db)

        return await with_room("the journal", lambda: self._do(attempt))

    async def add(self, assignment: Assignment, token: str, report: Report | None = None) -> None:
        """Takes a run in, with the report that says so; an older epoch of it is forgotten with its reports."""
        row = (assignment.result_id, assignment.epoch, assignment.SerializeToString(), ASSIGNED)

        def work(db: sqlite3.Connection) -> None:
            db.execute("DELETE FROM report WHERE result_id = ?", row[:1])
            db.execute(
                "INSERT OR REPLACE INTO run (result_id, epoch, assignment, state, token) VALUES (?, ?, ?, ?, ?)",
                (*row, token),
            )
            if report is not None:
                _insert(db, report, None)

        await self._do(work)

    async def mark_started(self, key: Key, digest: str) -> None:
        row = (digest, *key)
        await self._write(lambda db: db.execute("UPDATE run SET digest = ? WHERE result_id = ? AND epoch = ?", row))

    async def add_report(self, report: Report, upload: Path | None = None) -> Pending:
        """Keeps a report until it is accepted; the run's state is the report's from now on."""
        return Pending(await self._write(lambda db: _insert(db, report, upload)), report, upload)

    async def uploaded(self, pending: Pending, report: Report) -> None:
        """The output is at the server: the report, which now says where, can be sent.

        It gets a new id, so that who sends the reports in the order of ids will come across it.
        """

        def work(db: sqlite3.Connection) -> None:
            if db.execute("DELETE FROM report WHERE id = ?", (pending.id,)).rowcount:
                _insert(db, report, None)

        await self._write(work)

    async def accepted(self, key: Key, state: State) -> bool:
        """Forgets a report, and the run with it if that was its last. Says whether the run is done with."""
        if state not in FINAL:
            self._said.append((*key, state))
            return False

        def work(db: sqlite3.Connection) -> bool:
            db.execute(_SAID, (*key, state))
            return _forget(db, key)

        return await self._do(work)

    async def drop(self, key: Key) -> bool:
        """Forgets a run and its reports: the server will never hear of it again."""
        return await self._do(lambda db: _forget(db, key))

    async def entries(self) -> list[Entry]:
        rows = await self._do(
            lambda db: db.execute("SELECT assignment, state, token, digest FROM run ORDER BY result_id").fetchall()
        )
        return [Entry(Assignment.FromString(data), State(state), token, digest) for data, state, token, digest in rows]

    async def reports(self, after: int = 0) -> list[Pending]:
        """What can be sent and is not accepted, in the order in which it happened; `after` an id."""
        query = "SELECT id, report, upload FROM report WHERE id > ? AND upload IS NULL ORDER BY id"
        return [_pending(row) for row in await self._do(lambda db: db.execute(query, (after,)).fetchall())]

    async def uploads(self) -> list[Pending]:
        """Reports whose output is still to be uploaded."""
        query = "SELECT id, report, upload FROM report WHERE upload IS NOT NULL ORDER BY id"
        return [_pending(row) for row in await self._do(lambda db: db.execute(query).fetchall())]

    async def close(self) -> None:
        await self._do(lambda db: db.execute("PRAGMA optimize"))
        self._thread.submit(self._db.close).result()
        self._thread.shutdown()


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path)
    path.chmod(0o600)
    db.execute("PRAGMA journal_mode = WAL")
    # FULL: a commit is on the disk when it returns, also over a power cut.
    db.execute("PRAGMA synchronous = FULL")
    db.executescript(_SCHEMA)
    return db


def _insert(db: sqlite3.Connection, report: Report, upload: Path | None) -> int:
    key = (report.result_id, report.epoch)
    db.execute("UPDATE run SET state = ? WHERE result_id = ? AND epoch = ?", (report.state, *key))
    row = (*key, report.state, report.SerializeToString(), str(upload) if upload else None)
    return (
        db.execute("INSERT INTO report (result_id, epoch, state, report, upload) VALUES (?, ?, ?, ?, ?)", row).lastrowid
        or 0
    )


def _pending(row: tuple[int, bytes, str | None]) -> Pending:
    id_, data, upload = row
    return Pending(id_, Report.FromString(data), Path(upload) if upload else None)


def _forget(db: sqlite3.Connection, key: Key) -> bool:
    db.execute("DELETE FROM report WHERE result_id = ? AND epoch = ?", key)
    return db.execute("DELETE FROM run WHERE result_id = ? AND epoch = ?", key).rowcount > 0
