"""Puts a past into a server's database: finished tasks, and payloads that are stored. Written behind the server's back.

The server must have nothing to do meanwhile, since SQLite has one writer.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

_NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :count) "
_TIME = "'2026-01-01 00:00:00.000000'"
_TASKS = f"""
INSERT INTO tasks (collaboration_id, key, digest, name, description, image, run_id, databases, initiator_id, user_id,
                   priority, retries, state, created_at, finished_at)
{_NUMBERS}
SELECT :collaboration, 'past-' || :label || '-' || n, x'00', 'past', '', 'bench/nothing:1', 1000000 + n, '[]',
       :organization, :user, 0, 3, 3, {_TIME}, {_TIME} FROM numbers
"""
_RESULTS = f"""
INSERT INTO results (task_id, organization_id, state, reason, message, epoch, losses,
                     assigned_at, started_at, finished_at)
SELECT tasks.id, members.organization_id, 5, '', '', 1, 0, {_TIME}, {_TIME}, {_TIME}
FROM tasks JOIN members ON members.collaboration_id = tasks.collaboration_id WHERE tasks.id > :before
"""
_CONTENTS = """
INSERT INTO contents (result_id, kind, data)
SELECT results.id, kinds.kind, zeroblob(1400) FROM results
JOIN (SELECT 'input' AS kind UNION SELECT 'output') AS kinds WHERE results.task_id > :before
"""
_EVENTS = f"""
INSERT INTO events (time, collaboration_id, task_id, body)
SELECT {_TIME}, :collaboration, results.task_id, zeroblob(40) FROM results
JOIN (SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4) WHERE results.task_id > :before
"""
_PAYLOADS = f"""
INSERT INTO payloads (id, collaboration_id, creator, size, received, sha256, complete, created_at)
{_NUMBERS} SELECT 'past-' || n, :collaboration, 'user:2', :size, :size, x'00', 1, {_TIME} FROM numbers
"""


def add_past(database: Path, collaboration_id: int, organization_id: int, count: int, *, contents: bool) -> None:
    """Finished tasks with a result at each member; with `contents` their contents and events too."""
    with closing(sqlite3.connect(database)) as connection, connection:
        (before,) = connection.execute("SELECT coalesce(max(id), 0) FROM tasks").fetchone()
        (user,) = connection.execute(
            "SELECT min(id) FROM users WHERE organization_id = ?", (organization_id,)
        ).fetchone()
        values = {
            "collaboration": collaboration_id, "organization": organization_id, "user": user, "count": count,
            "before": before, "label": before,
        }  # fmt: skip
        for statement in (_TASKS, _RESULTS, *((_CONTENTS, _EVENTS) if contents else ())):
            connection.execute(statement, values)


def add_payloads(database: Path, blobs: Path, collaboration_id: int, count: int, size: int) -> None:
    """Complete uploads; the files are sparse, so that only their names cost room on the disk."""
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(_PAYLOADS, {"collaboration": collaboration_id, "count": count, "size": size})
    part = 4 * 2**20
    for number in range(1, count + 1):
        folder = blobs / f"past-{number}"
        folder.mkdir(parents=True)
        for index in range(size // part):
            with (folder / f"{index:08}").open("wb") as file:
                file.truncate(part)
