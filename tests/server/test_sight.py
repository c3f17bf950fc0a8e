"""What may be seen of tasks: the rule in the database and the rule for a row at hand say the same."""

from __future__ import annotations

from collections.abc import AsyncIterator
from itertools import product

import pytest

from vantage6.server.domain.events import now
from vantage6.server.domain.states import ResultState, TaskState
from vantage6.server.store.tables import Organization, Result, Task, User
from vantage6.server.store.tasks import TaskSight

from .world import World, make_world


@pytest.fixture
async def world(empty: str) -> AsyncIterator[World]:
    async with make_world(empty) as made:
        yield made


async def _tasks(world: World) -> tuple[list[Task], list[int], list[int]]:
    """One of each kind, with the organizations and the users that they may have."""
    async with world.database.write() as store:
        others = [Organization(name=name, public_key=b"") for name in ("far", "further")]
        store.session.add_all(others)
        await store.flush()
        organizations = [world.organizations[0], *(row.id for row in others)]
        user = User(username="other", email="o@x", password_hash="", organization_id=organizations[1])
        store.session.add(user)
        await store.flush()
        users = [world.user.id, user.id]
        made: list[Task] = []
        for number, (initiator, by, child) in enumerate(product([None, *organizations], [None, *users], (False, True))):
            task = Task(
                collaboration_id=world.collaboration_id, key=str(number), digest=b"", name="", description="",
                image="i", run_id=1, databases=[], initiator_id=initiator, user_id=by,
                parent_id=made[number // 4].id if child and made else None, priority=0, retries=0, min_results=None,
                fail_fast=False, deadline=None, state=TaskState.PENDING, created_at=now(),
            )  # fmt: skip
            store.tasks.add(task)
            await store.flush()
            made.append(task)
        return made, organizations, users


@pytest.mark.row("M33")
async def test_the_rule_for_a_row_at_hand_is_that_of_the_database(world: World) -> None:
    made, organizations, users = await _tasks(world)
    sights = [
        TaskSight(everything, collaborations, initiators, user, run=run)
        for everything, collaborations, initiators, user, run in product(
            (False, True),
            ((), (world.collaboration_id,), (world.collaboration_id + 1,)),
            ((), organizations[:1], organizations[1:]),
            (None, *users),
            (None, (made[0].id, organizations[0]), (made[3].id, organizations[2])),
        )
    ]
    ids = [task.id for task in made]
    shown = 0
    async with world.database.read() as store:
        for sight in sights:
            seen = await store.tasks.visible_ids(ids, sight)
            shown += len(seen)
            assert seen == {task.id for task in made if sight.covers(task)}, sight
    assert 0 < shown < len(sights) * len(made)


@pytest.mark.row("M33")
async def test_of_what_a_node_takes_part_in_only_the_database_knows(world: World) -> None:
    (mine, theirs, *_), _, _ = await _tasks(world)
    own = TaskSight(performer=(world.organizations[0], world.collaboration_id))
    async with world.database.write() as store:
        for task, organization_id in ((mine, world.organizations[0]), (theirs, world.organizations[1])):
            store.results.add(Result(task_id=task.id, organization_id=organization_id, state=ResultState.PENDING))
    assert own.covers(mine) is None
    async with world.database.read() as store:
        assert await store.tasks.visible(mine.id, own) is not None
        assert await store.tasks.visible(theirs.id, own) is None
