"""The engine, and the unit of work: everything inside `async with database.write() as store` is one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from sqlalchemy import literal, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine

from vantage6.common.faults import point
from vantage6.server.store.accounts import Accounts
from vantage6.server.store.counts import Counts
from vantage6.server.store.events import Events
from vantage6.server.store.locks import is_conflict, is_shared, lock_name, replica_is_alive
from vantage6.server.store.parties import Parties
from vantage6.server.store.payloads import Payloads
from vantage6.server.store.results import Results
from vantage6.server.store.security import Security
from vantage6.server.store.sqlite import make_sqlite_engine
from vantage6.server.store.tasks import Tasks

T = TypeVar("T")
MORE_TRIES = 5


class Store:
    """The door to the rows within one transaction, one attribute per subject."""

    def __init__(
        self,
        session: AsyncSession,
        on_rights: Callable[[int], None] = lambda _: None,
        counts: Counts | None = None,
    ) -> None:
        self.session = session
        self._on_rights = on_rights
        self.parties = Parties(session)
        self.accounts = Accounts(session)
        self.tasks = Tasks(session, counts)
        self.results = Results(session)
        self.events = Events(session)
        self.payloads = Payloads(session)
        self.security = Security(session)
        self._after_commit: list[Callable[[], None]] = []

    @property
    def shared(self) -> bool:
        """Whether other server processes may write to the database."""
        return is_shared(self.session)

    async def lock_name(self, name: str) -> None:
        """Others that want the same name wait until this transaction has ended."""
        await lock_name(self.session, name)

    async def replica_is_alive(self, replica: int) -> bool:
        """PostgreSQL only."""
        return bool(await self.session.scalar(select(replica_is_alive(literal(replica)))))

    async def flush(self) -> None:
        """Sends pending changes, so that new rows have their ids and constraints are checked."""
        await self.session.flush()

    def after_commit(self, action: Callable[[], None]) -> None:
        """Has `action` called once the transaction is durable; nobody is told of what may still be undone."""
        self._after_commit.append(action)

    def rights_changed(self, user_id: int | None = 0) -> None:
        """Has the watches of a user (0: of everybody) looked at again; None is nobody."""
        if user_id is not None:
            self.after_commit(lambda: self._on_rights(user_id))

    def committed(self) -> None:
        for action in self._after_commit:
            action()


class Database:
    """SQLite (WAL) or PostgreSQL by URL."""

    def __init__(self, url: str) -> None:
        self.engine = make_engine(url)
        self.shared = self.engine.dialect.name != "sqlite"
        # SQLite has one writer; queueing here is fair and free of time-outs, queueing in SQLite is neither.
        self._writer = asyncio.Lock()
        self._counts = Counts()
        self.on_doubt: Callable[[], None] = lambda: None
        """Called when a commit failed: it may have been made all the same, and nobody was told."""
        self.on_rights: Callable[[int], None] = lambda _: None
        """Called with the id of a user whose rights have changed, 0 for everybody's."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Store]:
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            yield Store(session, counts=self._counts)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[Store]:
        if self.shared:
            async with self._transaction() as store:
                yield store
            return
        async with self._writer, self._transaction() as store:
            yield store

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Store]:
        async with AsyncSession(self.engine, expire_on_commit=False) as session:
            if not self.shared:
                # SQLite's driver begins at the first INSERT only: a savepoint before it would be the transaction, and
                # be committed with its release. Immediate: another process (`vserver import`) is waited for here.
                await (await session.connection()).exec_driver_sql("BEGIN IMMEDIATE")
            store = Store(session, self.on_rights)
            yield store
            await _to_the_end(self._commit(session, store))

    async def _commit(self, session: AsyncSession, store: Store) -> None:
        try:
            point("server.store.before_commit")
            await store.events.write()
            await session.commit()
            point("server.store.after_commit")
            store.committed()
        except BaseException:
            self.on_doubt()
            raise

    async def transact(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Does `work` in one transaction; again, if it was ended for the sake of another one."""
        for _ in range(MORE_TRIES):
            try:
                async with self.write() as store:
                    return await work(store)
            except DBAPIError as error:
                if not is_conflict(error):
                    raise
        async with self.write() as store:
            return await work(store)

    async def close(self) -> None:
        await self.engine.dispose()


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """A caller that gives up during a commit must not keep those from being told whom the commit concerns."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def make_engine(url: str) -> AsyncEngine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_async_engine(url, pool_size=10, pool_pre_ping=True)
    return make_sqlite_engine(url)
