"""The journal over `kill -9`: what a method has returned from is on the disk."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vantage6.api.v1.delivery_pb2 import Assignment, Report
from vantage6.node import states
from vantage6.node.journal import Journal

_CHILD = """
import asyncio, os, signal, sys
from pathlib import Path
from vantage6.api.v1.delivery_pb2 import Assignment, Report
from vantage6.node import states
from vantage6.node.journal import Journal

async def main():
    journal = Journal(Path(sys.argv[1]))
    await journal.add(Assignment(result_id=1, epoch=2, image="a/b:1"), "token")
    await journal.mark_started((1, 2), "sha256:1")
    await journal.add_report(Report(result_id=1, epoch=2, state=states.RUNNING))
    await journal.add_report(Report(result_id=1, epoch=2, state=states.COMPLETED))
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.row("M27")
async def test_survives_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _CHILD, str(path), stdout=subprocess.DEVNULL, env=dict(os.environ)
    )
    assert await child.wait() == -signal.SIGKILL
    journal = Journal(path)
    (entry,) = await journal.entries()
    assert (entry.key, entry.state, entry.token, entry.digest) == ((1, 2), states.COMPLETED, "token", "sha256:1")
    assert entry.assignment.image == "a/b:1"
    assert [pending.report.state for pending in await journal.reports()] == [states.RUNNING, states.COMPLETED]
    await journal.close()


async def test_forgets_what_is_accepted(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.add(Assignment(result_id=1, epoch=1), "token")
    running = await journal.add_report(Report(result_id=1, epoch=1, state=states.RUNNING))
    await journal.add_report(Report(result_id=1, epoch=1, state=states.FAILED))
    assert not await journal.accepted((1, 1), states.RUNNING)
    assert len(await journal.reports(after=running.id)) == 1
    assert await journal.accepted((1, 1), states.FAILED)
    assert not await journal.entries()
    assert not await journal.reports()
    assert not await journal.accepted((1, 1), states.FAILED)
    await journal.close()


async def test_older_epoch_gives_way(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.add(Assignment(result_id=1, epoch=1), "one")
    await journal.add_report(Report(result_id=1, epoch=1, state=states.COMPLETED))
    await journal.add(Assignment(result_id=1, epoch=2), "two")
    assert [entry.token for entry in await journal.entries()] == ["two"]
    assert not await journal.reports()
    assert not await journal.drop((1, 1))
    assert await journal.drop((1, 2))
    await journal.close()


async def test_uploads_wait_and_then_come_last(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    for result_id in (1, 2):
        await journal.add(Assignment(result_id=result_id, epoch=1), "token")
    large = await journal.add_report(Report(result_id=1, epoch=1, state=states.COMPLETED), tmp_path / "sealed")
    small = await journal.add_report(Report(result_id=2, epoch=1, state=states.COMPLETED))
    assert [pending.key for pending in await journal.reports()] == [(2, 1)]
    assert [pending.upload for pending in await journal.uploads()] == [tmp_path / "sealed"]
    done = Report(result_id=1, epoch=1, state=states.COMPLETED)
    done.output.payload_id = "p"
    await journal.uploaded(large, done)
    assert [pending.report for pending in await journal.reports(after=small.id)] == [done]
    assert not await journal.uploads()
    await journal.close()


async def test_is_for_its_user_only(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    assert (tmp_path / "journal.sqlite").stat().st_mode & 0o077 == 0
    await journal.close()


async def test_what_comes_at_once_waits_for_the_disk_together_and_fails_alone(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    statements: list[str] = []
    begin = threading.Event()
    journal._thread.submit(begin.wait)  # so that all of them are waiting
    journal._thread.submit(lambda: journal._db.set_trace_callback(statements.append))

    def broken(_: sqlite3.Connection) -> None:
        raise ValueError("mine alone")

    adding = [asyncio.ensure_future(journal.add(Assignment(result_id=n, epoch=1), "token")) for n in range(1, 9)]
    await asyncio.sleep(0)
    begin.set()
    await asyncio.gather(*adding)
    assert statements.count("COMMIT") == 1
    begin.clear()
    journal._thread.submit(begin.wait)
    failing = asyncio.ensure_future(journal._do(broken))
    other = asyncio.ensure_future(journal.add(Assignment(result_id=9, epoch=1), "token"))
    await asyncio.sleep(0)
    begin.set()
    with pytest.raises(ValueError, match="mine alone"):
        await failing
    await other
    assert len(await journal.entries()) == 9
    await journal.close()


async def test_an_accepted_report_is_not_sent_again(tmp_path: Path) -> None:
    """Also while it is only remembered that it was accepted."""
    journal = Journal(tmp_path / "journal.sqlite")
    await journal.add(Assignment(result_id=1, epoch=1), "token", Report(result_id=1, epoch=1, state=states.ASSIGNED))
    assert not await journal.accepted((1, 1), states.ASSIGNED)
    assert await journal.reports() == []
    await journal.add_report(Report(result_id=1, epoch=1, state=states.COMPLETED))
    assert await journal.accepted((1, 1), states.COMPLETED)
    assert await journal.entries() == []
    await journal.close()


async def test_a_commit_is_on_the_disk_when_it_returns(tmp_path: Path) -> None:
    """Also over a power cut, which no test can make: with less than FULL (2) SQLite does not wait for the disk."""
    journal = Journal(tmp_path / "journal.sqlite")
    assert await journal._do(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await journal._do(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    await journal.close()
