"""What keeps several server processes on one PostgreSQL apart.

SQLite has one writer at a time: there, these do nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection

from sqlalchemy import ColumnElement, SQLColumnExpression, cast, column, func, literal, select, table, text
from sqlalchemy.dialects.postgresql import OID
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncSession

from vantage6.server.store.tables import Task

EVENTS = 7_661_007
NAMES = 7_661_008
REPLICAS = 7_661_009
"""Numbers of our advisory locks; the migrations have 7661006."""

_DEADLOCK, _SERIALIZATION_FAILURE = "40P01", "40001"


def is_shared(session: AsyncSession) -> bool:
    """Whether other processes may write to the database."""
    return session.get_bind().dialect.name == "postgresql"


def is_conflict(error: BaseException) -> bool:
    """Whether a transaction was ended for the sake of another one, as PostgreSQL does, or of another program that has
    the file of SQLite for long: the same again will work."""
    if not isinstance(error, DBAPIError):
        return False
    busy = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
    return busy or getattr(error.orig, "sqlstate", "") in {_DEADLOCK, _SERIALIZATION_FAILURE}


async def lock_name(session: AsyncSession, name: str) -> None:
    """Others that want the same name wait until this transaction has ended.

    For creating calls with a key: who comes second finds what the first has made, instead of tripping over a unique
    constraint half-way. Two names with the same hash wait for each other, which does no harm.
    """
    if is_shared(session):
        statement = text("SELECT pg_advisory_xact_lock(:kind, hashtext(:name))")
        await session.execute(statement, {"kind": NAMES, "name": name})


async def lock_events(session: AsyncSession) -> None:
    """Taken last, just before new events are written and the transaction commits; ends with it.

    A sequence gives out ids before the commit, so without this an event could become visible after one with a higher
    id, and who reads on from the higher one would never see it. With it, events become visible in the order of their
    ids. Nothing is waited for while it is held, so it takes part in no deadlock.
    """
    if is_shared(session):
        await session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": EVENTS})


def replica_is_alive(replica: SQLColumnExpression[int]) -> ColumnElement[bool]:
    """PostgreSQL only: a replica holds the lock of its number as long as it lives; it goes with its connection."""
    locks = table("pg_locks", *map(column, ("locktype", "granted", "classid", "objid", "database")))
    databases = table("pg_database", column("oid"), column("datname"))
    here = select(databases.c.oid).where(databases.c.datname == func.current_database()).scalar_subquery()
    held = select(locks.c.granted).where(
        locks.c.locktype == "advisory",
        locks.c.granted,
        locks.c.classid == cast(literal(REPLICAS), OID),
        locks.c.objid == cast(replica, OID),
        locks.c.database == here,
    )
    return held.exists()


async def lock_tasks(session: AsyncSession, ids: Collection[int]) -> None:
    """Every transaction that changes results locks their tasks first, in the order of their ids.

    So the results of a task change one transaction after the other, the task is settled by one at a time and becomes
    complete once, and two transactions that share tasks do not wait for each other crosswise.
    """
    if ids and is_shared(session):
        await session.execute(select(Task.id).where(Task.id.in_(ids)).order_by(Task.id).with_for_update(key_share=True))
