"""Queries for tasks."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Select,
    UnaryExpression,
    and_,
    bindparam,
    exists,
    false,
    func,
    or_,
    select,
    union,
    update,
)
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from vantage6.server.store.counts import Counts, changed, next_value
from vantage6.server.store.pages import ANY_TIME, Span, clauses_of
from vantage6.server.store.tables import Result, Task

MANY_PARTS = 16
"""Of what somebody may see; beyond, a page is found by sorting."""


@dataclass(frozen=True)
class TaskSight:
    """What a caller may see: the union of the parts, or everything."""

    everything: bool = False
    collaboration_ids: Collection[int] = ()
    initiator_ids: Collection[int] = ()
    user_id: int | None = None
    # A node: tasks with a result for its organization in its collaboration.
    performer: tuple[int, int] | None = None
    # A container, as (task, organization): its task, and the children that it asked for itself, not its siblings'.
    run: tuple[int, int] | None = None

    @property
    def key(self) -> Hashable:
        ids = frozenset(self.collaboration_ids), frozenset(self.initiator_ids)
        return self.everything, *ids, self.user_id, self.performer, self.run

    def clause(self) -> ColumnElement[bool] | None:
        if self.everything:
            return None
        parts = self.parts()
        return or_(*parts) if parts else false()

    def covers(self, task: Task) -> bool | None:
        """The same as `clause` of a task at hand; None if only the database can tell."""
        if (
            self.everything
            or task.collaboration_id in self.collaboration_ids
            or (task.initiator_id is not None and task.initiator_id in self.initiator_ids)
            or (self.user_id is not None and task.user_id == self.user_id)
            or self._of_run(task)
        ):
            return True
        return None if self.performer is not None else False

    def _of_run(self, task: Task) -> bool:
        if self.run is None:
            return False
        return task.id == self.run[0] or (task.parent_id, task.initiator_id) == self.run

    def parts(self) -> list[ColumnElement[bool]]:
        """Each finds its rows in the order of their ids by one index."""
        parts: list[ColumnElement[bool]] = []
        parts += [Task.collaboration_id == id_ for id_ in sorted(self.collaboration_ids)]
        parts += [Task.initiator_id == id_ for id_ in sorted(self.initiator_ids)]
        if self.user_id is not None:
            parts.append(Task.user_id == self.user_id)
        if self.performer is not None:
            parts.append(_performed_by(*self.performer))
        if self.run is not None:
            task_id, organization_id = self.run
            parts += [Task.id == task_id, and_(Task.parent_id == task_id, Task.initiator_id == organization_id)]
        return parts


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

    @property
    def key(self) -> Hashable:
        """Of a filter that looks only at what never changes of a task; None for others."""
        if self.states is not None or self.ids is not None:
            return None
        fixed = (self.collaboration_id, self.parent_id, self.run_id, self.name, self.image, self.initiator_id)
        return self.sight.key, self.performer, *fixed, self.user_id, self.created_at

    def apply(self, query: Select[Task], sight: ColumnElement[bool] | None = None) -> Select[Task]:
        """`sight` is one of the parts of what may be seen, in place of all of them."""
        clauses = [
            self.sight.clause() if sight is None else sight,
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


def _first_of_each(
    wanted: TaskFilter,
    parts: Sequence[ColumnElement[bool]],
    beyond: ColumnElement[bool] | None,
    order: UnaryExpression[int],
    number: int,
) -> Select[int]:
    """Ids among which the first ones are: so many of each part, instead of sorting all that may be seen."""
    firsts = []
    for part in parts:
        query = wanted.apply(select(Task), part).with_only_columns(Task.id).order_by(order).limit(number)
        firsts.append(select((query if beyond is None else query.where(beyond)).subquery().c.id))
    return select(union(*firsts).subquery().c.id)


_AMONG: BindParameter[Any] = bindparam("ids", expanding=True)
_BY_IDS = select(Task).where(Task.id.in_(_AMONG))
_LOCKED = _BY_IDS.order_by(Task.id).with_for_update(key_share=True).execution_options(populate_existing=True)
_BY_KEY = select(Task).where(Task.collaboration_id == bindparam("collaboration_id"), Task.key == bindparam("key"))
_CHILDREN = select(Task.parent_id, Task.id).where(Task.parent_id.in_(_AMONG)).order_by(Task.id)


class Tasks:
    def __init__(self, session: AsyncSession, counts: Counts | None = None) -> None:
        self._session = session
        self._counts = counts

    async def get(self, task_id: int) -> Task | None:
        return await self._session.get(Task, task_id)

    async def by_ids(self, ids: Collection[int]) -> dict[int, Task]:
        rows = await self._session.scalars(_BY_IDS, {"ids": list(ids)})
        return {task.id: task for task in rows}

    async def locked(self, ids: Collection[int]) -> dict[int, Task]:
        """Like by_ids, for changing their results (see locks.lock_tasks): in the order of the ids, as they are now."""
        rows = await self._session.scalars(_LOCKED, {"ids": list(ids)})
        return {task.id: task for task in rows}

    async def by_key(self, collaboration_id: int, key: str) -> Task | None:
        which = {"collaboration_id": collaboration_id, "key": key}
        return (await self._session.scalars(_BY_KEY, which)).one_or_none()

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
        beyond = None if after is None else Task.id < after if descending else Task.id > after
        parts = wanted.sight.parts()
        if limit is not None and 1 < len(parts) <= MANY_PARTS and not wanted.sight.everything and wanted.ids is None:
            query = select(Task).where(Task.id.in_(_first_of_each(wanted, parts, beyond, order, offset + limit)))
        else:
            query = wanted.apply(select(Task))
            query = query if beyond is None else query.where(beyond)
        query = query.order_by(order).offset(offset)
        return (await self._session.scalars(query if limit is None else query.limit(limit))).all()

    async def count(self, wanted: TaskFilter) -> int:
        async def between(after: int, until: int | None) -> int:
            query = wanted.apply(select(Task)).with_only_columns(func.count(Task.id))
            query = query.where(Task.id > after) if after else query
            return await self._session.scalar(query if until is None else query.where(Task.id <= until)) or 0

        if self._counts is None or (key := wanted.key) is None:
            return await between(0, None)
        return await self._counts.count(self._session, key, between)

    async def visible(self, task_id: int, sight: TaskSight) -> Task | None:
        task = (await self._session.scalars(_BY_IDS, {"ids": [task_id]})).one_or_none()
        return task if task is not None and await self.within(task, sight) else None

    async def within(self, task: Task, sight: TaskSight) -> bool:
        """Whether a task at hand may be seen."""
        covered = sight.covers(task)
        return bool(await self.visible_ids([task.id], sight)) if covered is None else covered

    async def visible_ids(self, ids: Collection[int], sight: TaskSight) -> set[int]:
        query = TaskFilter(sight, ids=ids).apply(select(Task)).with_only_columns(Task.id)
        return set(await self._session.scalars(query))

    async def child_ids(self, task_ids: Collection[int]) -> dict[int, list[int]]:
        """Ids of the children of each task, ascending; absent where there are none."""
        found: dict[int, list[int]] = {}
        for parent_id, child_id in await self._session.execute(_CHILDREN, {"ids": list(task_ids)}):
            if parent_id is not None:
                found.setdefault(parent_id, []).append(child_id)
        return found

    async def descendant_ids(self, task_id: int) -> list[int]:
        """The task itself and all that it led to."""
        family = select(Task.id).where(Task.id == task_id).cte(recursive=True)
        family = family.union_all(select(Task.id).join(family, Task.parent_id == family.c.id))
        return list(await self._session.scalars(select(family.c.id)))

    async def lineage(self, task: Task) -> tuple[int, int]:
        """How many tasks lead to this one, itself included, and how many its run has; in one statement."""
        line = select(Task.id, Task.parent_id).where(Task.id == task.id).cte(recursive=True)
        line = line.union_all(select(Task.id, Task.parent_id).where(Task.id == line.c.parent_id))
        depth = select(func.count()).select_from(line).scalar_subquery()
        size = select(func.count()).where(Task.run_id == task.run_id).scalar_subquery()
        row = (await self._session.execute(select(depth, size))).one()
        return row[0], row[1]

    async def next_run_id(self) -> int:
        """A number that no run had before, also after tasks were deleted."""
        return await next_value(self._session, "run_id")

    def add(self, task: Task) -> None:
        self._session.add(task)

    async def set_state(self, task_id: int, **values: object) -> None:
        await self._session.execute(update(Task).where(Task.id == task_id).values(**values))

    async def disown(self, user_id: int) -> None:
        """The tasks of a user are nobody's but their organization's from now on."""
        await self._session.execute(update(Task).where(Task.user_id == user_id).values(user_id=None))
        await changed(self._session)

    async def delete(self, task: Task) -> None:
        """Deletes it with its children, results and contents (ON DELETE CASCADE)."""
        await self._session.delete(task)
        await changed(self._session)
