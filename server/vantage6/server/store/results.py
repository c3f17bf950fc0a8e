"""Queries for results and their contents."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Select, bindparam, exists, func, or_, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from vantage6.server.domain.states import OPEN, ResultState
from vantage6.server.store import bulk
from vantage6.server.store.bulk import Moving
from vantage6.server.store.locks import is_shared, lock_tasks
from vantage6.server.store.pages import ANY_TIME, Span, clauses_of
from vantage6.server.store.tables import Content, Result, Task
from vantage6.server.store.tasks import TaskSight

KINDS = ("input", "output", "log")
"""Of contents."""
MANY_NODES = 16
_NOT_FINAL = text("results.state <= 4")
"""As the index ix_results_open has it, to the letter: else SQLite reads all results of an organization ever made."""


@dataclass(frozen=True)
class ResultFilter:
    sight: TaskSight
    states: Collection[int] | None = None
    task_id: int | None = None
    performer: tuple[int, int] | None = None
    organization_id: int | None = None
    finished_at: Span = ANY_TIME
    ids: Collection[int] | None = None
    task_ids: Collection[int] | None = None

    def apply(self, query: Select[Result]) -> Select[Result]:
        query = query.join(Task, Task.id == Result.task_id)
        clauses = [
            self.sight.clause(),
            None if self.states is None else Result.state.in_(self.states),
            *clauses_of(self, Result),
            None if self.ids is None else Result.id.in_(self.ids),
            None if self.task_ids is None else Result.task_id.in_(self.task_ids),
        ]
        if self.sight.performer is not None:
            # A node sees what it does itself, not what the other sites do for the same task.
            clauses.append(Result.organization_id == self.sight.performer[0])
        if self.sight.run is not None:
            # Nor does an algorithm: of its own task only what it makes itself.
            task_id, organization_id = self.sight.run
            clauses.append(or_(Result.task_id != task_id, Result.organization_id == organization_id))
        if self.performer is not None:
            organization_id, collaboration_id = self.performer
            clauses += [Result.organization_id == organization_id, Task.collaboration_id == collaboration_id]
        return query.where(*(clause for clause in clauses if clause is not None))


class NewContent(NamedTuple):
    """A row of `contents` to be."""

    result_id: int
    kind: str
    data: bytes | None
    payload_id: str | None = None


class Stored(NamedTuple):
    """What a result has of a kind: the bytes themselves, or where they are."""

    data: bytes | None
    payload_id: str | None


class Results:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, result_id: int) -> Result | None:
        return await self._session.get(Result, result_id)

    async def by_ids(self, ids: Collection[int]) -> dict[int, Result]:
        rows = await self._session.scalars(select(Result).where(Result.id.in_(ids)))
        return {result.id: result for result in rows}

    async def moving(self, ids: Collection[int]) -> dict[int, Moving]:
        """As they are now, for changing many of them; `save` writes them back."""
        return await bulk.load(self._session, ids)

    async def save(self, results: Collection[Moving]) -> None:
        await bulk.save(self._session, results)

    async def add_pending(self, task_id: int, organization_ids: Sequence[int]) -> list[Moving]:
        """New results of a task, one for each organization, in this order."""
        ids = await bulk.next_ids(self._session, bulk.RESULTS, len(organization_ids))
        made = [
            Moving(id_, task_id, organization_id, ResultState.PENDING)
            for id_, organization_id in zip(ids, organization_ids, strict=True)
        ]
        await bulk.add_results(self._session, made)
        return made

    async def add_contents(self, contents: Sequence[NewContent]) -> None:
        await bulk.add(self._session, bulk.CONTENTS, [content._asdict() for content in contents])

    async def task_ids(self, ids: Collection[int]) -> set[int]:
        """The tasks of these results."""
        return set(await self._session.scalars(_TASK_IDS, {"ids": list(ids)}))

    async def of_tasks(self, task_ids: Collection[int], states: Iterable[ResultState] | None = None) -> list[Result]:
        query = select(Result).where(Result.task_id.in_(task_ids)).order_by(Result.id)
        if states is not None:
            query = query.where(Result.state.in_(list(states)))
        return list(await self._session.scalars(query))

    async def find(
        self,
        wanted: ResultFilter,
        *,
        offset: int = 0,
        limit: int | None = None,
        descending: bool = False,
        after: int | None = None,
    ) -> Sequence[Result]:
        order = Result.id.desc() if descending else Result.id.asc()
        query = wanted.apply(select(Result)).order_by(order).offset(offset)
        if after is not None:
            query = query.where(Result.id < after if descending else Result.id > after)
        return (await self._session.scalars(query if limit is None else query.limit(limit))).all()

    async def count(self, wanted: ResultFilter) -> int:
        query = wanted.apply(select(Result)).with_only_columns(func.count(Result.id))
        return await self._session.scalar(query) or 0

    async def ids_of_tasks(self, wanted: ResultFilter) -> dict[int, list[int]]:
        """Ids of the results by task, ascending; absent where there are none."""
        query = wanted.apply(select(Result)).with_only_columns(Result.task_id, Result.id).order_by(Result.id)
        found: dict[int, list[int]] = {}
        for task_id, result_id in await self._session.execute(query):
            found.setdefault(task_id, []).append(result_id)
        return found

    async def counts(self, task_ids: Collection[int]) -> dict[int, dict[ResultState, int]]:
        """How many results of each task are in which state."""
        found: dict[int, dict[ResultState, int]] = {task_id: {} for task_id in task_ids}
        for task_id, state, number in await self._session.execute(_COUNTS, {"task_ids": list(task_ids)}):
            found[task_id][ResultState(state)] = number
        return found

    async def open_counts(self) -> dict[ResultState, int]:
        """How many results wait, or are under way, in which state; from the small index of those that are not final."""
        query = select(Result.state, func.count()).where(Result.state <= ResultState.RUNNING).group_by(Result.state)
        return {ResultState(state): number for state, number in await self._session.execute(query)}

    async def pending(self, wanted: dict[tuple[int, int], int]) -> list[tuple[Moving, Task]]:
        """The next results for nodes: `wanted` maps (organization, collaboration) to how many it takes."""
        while True:
            found = await (
                self._pending_for_many(wanted) if len(wanted) > MANY_NODES else self._pending_for_few(wanted)
            )
            if not found or not is_shared(self._session):
                return found
            still = await self._still_pending(found)
            # What another transaction took meanwhile must not keep those that stand behind it from their turn.
            if len(still) == len(found):
                return still

    async def _still_pending(self, found: list[tuple[Moving, Task]]) -> list[tuple[Moving, Task]]:
        await lock_tasks(self._session, {task.id for _, task in found})
        # As they are now that nobody else changes them.
        tasks = select(Task).where(Task.id.in_({task.id for _, task in found}))
        await self._session.execute(tasks.execution_options(populate_existing=True))
        results = await self.moving([result.id for result, _ in found])
        now = [(results[result.id], task) for result, task in found if result.id in results]
        return [(result, task) for result, task in now if result.state == ResultState.PENDING]

    async def _locked(
        self, found: list[tuple[Result, Task]], states: Collection[ResultState]
    ) -> list[tuple[Result, Task]]:
        """What was found, with its tasks locked, as far as it is still in these states then."""
        if not found or not is_shared(self._session):
            return found
        await lock_tasks(self._session, {task.id for _, task in found})
        ids = [result.id for result, _ in found]
        query = select(Result, Task).join(Task, Task.id == Result.task_id).where(Result.id.in_(ids))
        query = query.where(Result.state.in_([int(state) for state in states]))
        rows = await self._session.execute(query.execution_options(populate_existing=True))
        left = {result.id for result, _ in rows}
        return [(result, task) for result, task in found if result.id in left]

    async def _pending_for_few(self, wanted: dict[tuple[int, int], int]) -> list[tuple[Moving, Task]]:
        found: list[tuple[Moving, Task]] = []
        for (organization_id, collaboration_id), number in wanted.items():
            of_node = {"organization_id": organization_id, "collaboration_id": collaboration_id, "number": number}
            found += [(Moving(*columns), task) for task, *columns in await self._session.execute(_NEXT, of_node)]
        return found

    async def _pending_for_many(self, wanted: dict[tuple[int, int], int]) -> list[tuple[Moving, Task]]:
        """One statement, whatever the number of nodes: a task for a thousand of them wakes a thousand at once."""
        organizations = {organization_id for organization_id, _ in wanted}
        rank = func.row_number().over(
            partition_by=(Result.organization_id, Task.collaboration_id), order_by=(Task.priority.desc(), Result.id)
        )
        ranked = (
            select(Result.id, rank.label("rank"))
            .join(Task, Task.id == Result.task_id)
            .where(Result.state == ResultState.PENDING, Result.organization_id.in_(organizations), _NOT_FINAL)
            .subquery()
        )
        query = _queue().join(ranked, ranked.c.id == Result.id).where(ranked.c.rank <= max(wanted.values()))
        query = query.order_by(Task.priority.desc(), Result.id)
        left = dict(wanted)
        found = []
        for task, *columns in await self._session.execute(query):
            result = Moving(*columns)
            address = (result.organization_id, task.collaboration_id)
            if left.get(address, 0) > 0:
                left[address] -= 1
                found.append((result, task))
        return found

    async def of_node(
        self, organization_id: int, collaboration_id: int, states: Collection[ResultState]
    ) -> list[tuple[Result, Task]]:
        """What the node of an organization in a collaboration has in these states, for changing it."""
        query = (
            select(Result, Task)
            .join(Task, Task.id == Result.task_id)
            .where(
                Result.state.in_([int(state) for state in states]),
                Result.organization_id == organization_id,
                Task.collaboration_id == collaboration_id,
                _NOT_FINAL,
            )
        )
        return await self._locked([(result, task) for result, task in await self._session.execute(query)], states)

    async def nearest_deadline(self) -> dt.datetime | None:
        """Of the tasks that have open results."""
        open_ones = select(Result.task_id).where(_NOT_FINAL)
        query = select(func.min(Task.deadline)).where(Task.deadline.is_not(None), Task.id.in_(open_ones))
        return await self._session.scalar(query)

    async def tasks_due(self, time: dt.datetime) -> list[Task]:
        """Tasks that have open results though their deadline has passed, for ending them."""
        late = select(Task).where(Task.deadline <= time, _has_open())
        if is_shared(self._session):
            await lock_tasks(self._session, (await self._session.scalars(late.with_only_columns(Task.id))).all())
        return list(await self._session.scalars(late))

    def add(self, result: Result) -> None:
        self._session.add(result)

    def add_content(self, content: Content) -> None:
        self._session.add(content)

    async def contents(self, result_ids: Collection[int], *kinds: str) -> dict[tuple[int, str], Stored]:
        """All kinds if none is named."""
        wanted = {"result_ids": list(result_ids), "kinds": kinds or KINDS}
        rows = await self._session.execute(_CONTENTS, wanted)
        return {(row.result_id, row.kind): Stored(row.data, row.payload_id) for row in rows}


def _has_open() -> ColumnElement[bool]:
    return exists().where(Result.task_id == Task.id, Result.state.in_([int(state) for state in OPEN]))


def _queue() -> Select[Any]:
    """Task, and the columns of a pending result, which are those of Moving."""
    joined = bulk.RESULTS.join(bulk.TASKS, bulk.TASKS.c.id == bulk.RESULTS.c.task_id)
    return select(Task, *bulk.COLUMNS).select_from(joined).where(Result.state == ResultState.PENDING, _NOT_FINAL)


_NEXT = (
    _queue()
    .where(
        Result.organization_id == bindparam("organization_id"),
        Task.collaboration_id == bindparam("collaboration_id"),
    )
    .order_by(Task.priority.desc(), Result.id)
    .limit(bindparam("number"))
)
_results, _contents = bulk.RESULTS.c, bulk.CONTENTS.c
_TASK_IDS = select(_results.task_id).where(_results.id.in_(bindparam("ids", expanding=True)))
_COUNTS = (
    select(_results.task_id, _results.state, func.count())
    .where(_results.task_id.in_(bindparam("task_ids", expanding=True)))
    .group_by(_results.task_id, _results.state)
)
_CONTENTS = select(_contents.result_id, _contents.kind, _contents.data, _contents.payload_id).where(
    _contents.result_id.in_(bindparam("result_ids", expanding=True)),
    _contents.kind.in_(bindparam("kinds", expanding=True)),
)
