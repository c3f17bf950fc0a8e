"""A page costs the same number of SQL statements, whatever it holds."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from sqlalchemy import event

from vantage6.api.v1 import (
    audit_pb2,
    auth_pb2,
    collaboration_pb2,
    node_pb2,
    organization_pb2,
    result_pb2,
    role_pb2,
    task_pb2,
    user_pb2,
)

from .conftest import Hospitals
from .live import everything, rest


@pytest.fixture
def kind() -> str:
    """The statements are the same for each database."""
    return "sqlite"


async def count(hospitals: Hospitals, call: Any, request: Any) -> tuple[int, int]:
    """SQL statements and items of one REST call for a page."""
    statements: list[str] = []

    def note(*arguments: Any) -> None:
        statements.append(arguments[2])

    engine = hospitals.live.database.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    try:
        items = await everything(call(request, metadata=rest(hospitals.root)))
    finally:
        event.remove(engine, "before_cursor_execute", note)
    return len(statements), len(items)


async def test_the_number_of_statements_does_not_grow_with_the_page(hospitals: Hospitals) -> None:
    live = hospitals.live
    for _ in range(12):
        await live.add_run(hospitals.shared, hospitals.a)
    for _ in range(3):
        await live.login()
    task, _ = await live.add_run(hospitals.shared, hospitals.a)
    async with live.database.write() as store:
        await store.results.add_pending(task.id, [hospitals.b])
    stubs = live.stubs
    for call, request in (
        (stubs.tasks.ListTaskResults, partial(task_pb2.ListTaskResultsRequest, task_id=task.id)),
        (stubs.auth.ListSessions, auth_pb2.ListSessionsRequest),
        (stubs.roles.ListRules, role_pb2.ListRulesRequest),
        (stubs.audit.ListAuditEntries, audit_pb2.ListAuditEntriesRequest),
        (stubs.tasks.ListTasks, task_pb2.ListTasksRequest),
        (stubs.results.ListResults, result_pb2.ListResultsRequest),
        (stubs.users.ListUsers, user_pb2.ListUsersRequest),
        (stubs.nodes.ListNodes, node_pb2.ListNodesRequest),
        (stubs.organizations.ListOrganizations, organization_pb2.ListOrganizationsRequest),
        (stubs.collaborations.ListCollaborations, collaboration_pb2.ListCollaborationsRequest),
        (stubs.roles.ListRoles, role_pb2.ListRolesRequest),
    ):
        small, few = await count(hospitals, call, request(page=1, per_page=1))
        large, many = await count(hospitals, call, request(page=1, per_page=10))
        assert few < many, request
        assert small == large, f"{request}: {small} statements for {few}, {large} for {many}"
