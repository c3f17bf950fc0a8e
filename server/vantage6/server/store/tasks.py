"""Queries for tasks."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, and_, exists, false, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from vantage6.server.store.pages import ANY_TIME, Span, clauses_of
from vantage6.server.store.tables import Result, Task
from vantage6.server.store.tables import Sequence as SequenceRow


@dataclass(frozen=True)
class TaskSight:
    """What a caller may see: the union of the parts, or everything."""

    everything: bool = False
    collaboration_ids: Collection[int] = ()
    initiator_ids: Collection[int] = ()
    user_id: int | None = None
    # A node: tasks with a result for its organization in its collaboration.
    performer: tuple[int, int] | None = None
    # A container: its own task and the children.
    family: int | None = None

    def clause(self) -> ColumnElement[bool] | None:
        if self.everything:
            return None
        parts: list[ColumnElement[bool]] = []
        if self.collaboration_ids:
            parts.append(Task.collaboration_id.in_(self.collaboration_ids))
        if self.initiator_ids:
            parts.append(Task.initiator_id.in_(self.initiator_ids))
        if self.user_id is not None:
            parts.append(Task.user_id == self.user_id)
        if self.performer is not None:
            parts.append(_performed_by(*self.performer))
        if self.family is not None:
            parts.append(or_(Task.id == self.family, Task.parent_id == self.family))
        return or_(*parts) if parts else false()


@dataclass(frozen=True)
class TaskFilter:
    sight: TaskSight
    collaboration_id: int | None = None
    performer: tuple[int, int] | None = None
    parent_id: int | None = None
    run_id: int | None = None
    states: Collection[int] | None = None
    name: str | None = None
    image: str | None = None
    initiator_id: int | None = None
    user_id: int | None = None
    created_at: Span = ANY_TIME
    ids: Collection[int] | None = field(default=None)

    def apply(self, query: Select[Task]) -> Select[Task]:
        clauses = [
            self.sight.clause(),
            *clauses_of(self, Task),
            None if self.performer is None else _performed_by(*self.performer),
            None if self.states is None else Task.state.in_(self.states),
            None if self.ids is None else Task.id.in_(self.ids),
        ]
        return query.where(*(clause for clause in clauses if clause is not None))


def _performed_by(organization_id: int, collaboration_id: int) -> ColumnElement[bool]:
    # An alias, since the query around it may be about results too.
    performed = aliased(Result)
    performs = exists().where(performed.task_id == Task.id, performed.organization_id == organization_id)
    return and_(Task.collaboration_id == collaboration_id, performs)


class Tasks:
    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def get(self, task_id: int) -> Task | None:
        return await self._session.get(Task, task_id)

    async def by_ids(self, ids: Collection[int]) -> dict[int, Task]:
        rows = await self._session.scalars(select(Task).where(Task.id.in_(ids)))
        return {task.id: task for task in rows}

    async def locked(self, ids: Collection[int]) -> dict[int, Task]:
        """Like by_ids, for changing their results (see locks.lock_tasks): in the order of the ids, as they are now."""
        query = select(Task).where(Task.id.in_(ids)).order_by(Task.id).with_for_update(key_share=True)
        rows = await self._session.scalars(query.execution_options(populate_existing=True))
        return {task.id: task for task in rows}

    async def by_key(self, collaboration_id: int, key: str) -> Task | None:
        query = select(Task).where(Task.collaboration_id == collaboration_id, Task.key == key)
        return (await self._session.scalars(query)).one_or_none()

    async def find(
        self,
        wanted: TaskFilter,
        *,
        offset: int = 0,
        limit: int | None = None,
        descending: bool = False,
        after: int | None = None,
    ) -> Sequence[Task]:
        order = Task.id.desc() if descending else Task.id.asc()
        query = wanted.apply(select(Task)).order_by(order).offset(offset)
        if after is not None:
            query = query.where(Task.id < after if descending else Task.id > after)
        return (await self._session.scalars(query if limit is None else query.limit(limit))).all()

    async def count(self, wanted: TaskFilter) -> int:
        query = wanted.apply(select(Task)).with_only_columns(func.count(Task.id))
        return await self._session.scalar(query) or 0

    async def visible(self, task_id: int, sight: TaskSight) -> Task | None:
        rows = await self.find(TaskFilter(sight, ids=[task_id]))
        return rows[0] if rows else None

    async def child_ids(self, task_ids: Collection[int]) -> dict[int, list[int]]:
        """Ids of the children of each task, ascending; absent where there are none."""
        query = select(Task.parent_id, Task.id).where(Task.parent_id.in_(task_ids)).order_by(Task.id)
        found: dict[int, list[int]] = {}
        for parent_id, child_id in await self._session.execute(query):
            if parent_id is not None:
                found.setdefault(parent_id, []).append(child_id)
        return found

    async def descendant_ids(self, task_id: int) -> list[int]:
        """The task itself and all that it led to."""
        family = select(Task.id).where(Task.id == task_id).cte(recursive=True)
        family = family.union_all(select(Task.id).join(family, Task.parent_id == family.c.id))
        return list(await self._session.scalars(select(family.c.id)))

    async def next_run_id(self) -> int:
        """A number that no run had before, also after tasks were deleted."""
        dialect = self._session.get_bind().dialect.name
        insert = (sqlite.insert if dialect == "sqlite" else postgresql.insert)(SequenceRow)
        statement = (
            insert.values(name="run_id", value=1)
            .on_conflict_do_update(index_elements=["name"], set_={"value": SequenceRow.value + 1})
            .returning(SequenceRow.value)
        )
        return (await self._session.execute(statement)).scalar_one()

    def add(self, task: Task) -> None:
        self._session.add(task)

    async def set_state(self, task_id: int, **values: object) -> None:
        await self._session.execute(update(Task).where(Task.id == task_id).values(**values))

    async def delete(self, task: Task) -> None:
        """Deletes it with its children, results and contents (ON DELETE CASCADE)."""
        await self._session.delete(task)
