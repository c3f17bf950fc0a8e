"""The permission matrix: every RPC x every role x every place. An RPC without a row fails here."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from vantage6.api.v1 import role_pb2, user_pb2
from vantage6.server.domain.caller import Operation, Resource
from vantage6.server.domain.states import ResultState

from .conftest import Hospitals
from .live import PASSWORD, Metadata, bearer
from .matrix import COLUMNS, ROWS, Stage
from .test_unimplemented import servicers

FORBIDDEN = {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.NOT_FOUND}
# The node's stream has its own tests (test_delivery.py): only nodes may open it.
STREAMS = {"Delivery.Connect"}
SERVICES = {
    "Audit": "audit", "Auth": "auth", "Collaboration": "collaborations", "Event": "events", "Node": "nodes",
    "Organization": "organizations", "Payload": "payloads", "Result": "results", "Role": "roles", "System": "system",
    "Task": "tasks", "User": "users",
}  # fmt: skip

# The columns: root, organization and collaboration admin, researcher, viewer, nobody, node, container, anonymous; then
# an organization's own roles with every rule in the scope own, organization, collaboration, global.
# Where each may do it, or (in a list) whose it sees: the letters of matrix.py, "." for nowhere.
TABLE = """
Organization.GetOrganization                  abc  ab   ab   ab   ab   a    ab   ab   .     a    a    ab   abc
Organization.ListOrganizations                abc  ab   ab   ab   ab   a    ab   ab   .     a    a    ab   abc
Organization.CreateOrganization               -    .    .    .    .    .    .    .    .     .    .    .    -
Organization.UpdateOrganization               abc  a    .    .    .    .    a    .    .     .    a    a    abc
Organization.DeleteOrganization               -    .    .    .    .    .    .    .    .     .    .    .    -
Collaboration.GetCollaboration                ac   a    a    a    a    .    a    a    .     .    .    a    ac
Collaboration.ListCollaborations              ac   a    a    a    a    .    a    a    .     .    .    a    ac
Collaboration.CreateCollaboration             -    .    .    .    .    .    .    .    .     .    .    .    -
Collaboration.UpdateCollaboration             ac   .    a    .    .    .    .    .    .     .    .    a    ac
Collaboration.DeleteCollaboration             ac   .    a    .    .    .    .    .    .     .    .    a    ac
Collaboration.AddCollaborationOrganization    ac   .    .    .    .    .    .    .    .     .    .    .    ac
Collaboration.RemoveCollaborationOrganization ac   .    a    .    .    .    .    .    .     .    .    a    ac
Node.GetNode                                  abc  ab   ab   ab   ab   .    a    .    .     .    a    ab   abc
Node.ListNodes                                abc  ab   ab   ab   ab   .    a    .    .     .    a    ab   abc
Node.CreateNode                               abc  a    a    .    .    .    .    .    .     .    .    a    abc
Node.UpdateNode                               abc  a    ab   .    .    .    .    .    .     .    a    ab   abc
Node.DeleteNode                               abc  a    ab   .    .    .    .    .    .     .    a    ab   abc
Node.ResetNodeApiKey                          abc  a    a    .    .    .    .    .    .     .    a    a    abc
User.GetUser                                  sabc sa   s    s    s    s    .    .    .     s    sa   sab  sabc
User.ListUsers                                sabc sa   s    s    s    s    .    .    .     s    sa   sab  sabc
User.CreateUser                               abc  a    .    .    .    .    .    .    .     .    a    a    abc
User.UpdateUser                               sabc sa   s    s    s    s    .    .    .     s    sa   sa   sabc
User.DeleteUser                               abc  a    .    .    .    .    .    .    .     .    a    a    abc
Role.GetRole                                  abc  a    a    .    .    .    .    .    .     .    a    a    abc
Role.ListRoles                                abc  a    a    .    .    .    .    .    .     .    a    a    abc
Role.CreateRole                               abc  a    .    .    .    .    .    .    .     .    a    a    abc
Role.UpdateRole                               abc  a    .    .    .    .    .    .    .     .    a    a    abc
Role.DeleteRole                               abc  a    .    .    .    .    .    .    .     .    a    a    abc
Role.ListRules                                -    -    -    -    -    -    .    .    .     -    -    -    -
Task.GetTask                                  sabc sab  sab  sab  sab  .    sa   s    .     s    sa   sab  sabc
Task.ListTasks                                sabc sab  sab  sab  sab  .    sa   s    .     s    sa   sab  sabc
Task.CreateTask                               abc  ab   ab   ab   .    .    .    ab   .     ab   ab   ab   ab
Task.CancelTask                               sabc sa   sab  s    .    .    .    s    .     s    sa   sab  sabc
Task.DeleteTask                               sabc sa   sab  s    .    .    .    .    .     s    sa   sab  sabc
Task.ListTaskResults                          sabc sab  sab  sab  sab  .    sa   s    .     s    sa   sab  sabc
Result.GetResult                              sabct sabt sabt sabt sabt .   sa   s    .     st   sat  sabt sabct
Result.ListResults                            sabct sabt sabt sabt sabt .   sa   s    .     st   sat  sabt sabct
Event.Watch                                   sabc sab  sab  sab  sab  .    .    s    .     s    sa   sab  sabc
Event.StreamEvents                            sabc sab  sab  sab  sab  .    .    s    .     s    sa   sab  sabc
Payload.CreatePayload                         .    a    a    a    .    .    a    a    .     a    a    a    a
Payload.WritePayload                          s    s    s    s    s    s    s    s    .     s    s    s    s
Payload.GetPayload                            s    s    s    s    s    s    s    s    .     s    s    s    s
Payload.ReadPayload                           s    s    s    s    s    s    s    s    .     s    s    s    s
Payload.DeletePayload                         s    s    s    s    s    s    s    s    .     s    s    s    s
Auth.CreateUserToken                          -    -    -    -    -    -    -    -    -     -    -    -    -
Auth.CreateNodeToken                          -    -    -    -    -    -    -    -    -     -    -    -    -
Auth.CreateContainerToken                     .    .    .    .    .    .    a    .    .     .    .    .    .
Auth.RefreshToken                             -    -    -    -    -    -    -    -    -     -    -    -    -
Auth.RevokeToken                              -    -    -    -    -    -    -    .    .     -    -    -    -
Auth.ListSessions                             -    -    -    -    -    -    .    .    .     -    -    -    -
Auth.DeleteSession                            s    s    s    s    s    s    .    .    .     s    s    s    s
Auth.CreateSecondFactor                       -    -    -    -    -    -    .    .    .     -    -    -    -
Auth.ConfirmSecondFactor                      -    -    -    -    -    -    .    .    .     -    -    -    -
Auth.DeleteSecondFactor                       sabc sa   s    s    s    s    .    .    .     s    sa   sa   sabc
Auth.LosePassword                             -    -    -    -    -    -    -    -    -     -    -    -    -
Auth.ResetPassword                            -    -    -    -    -    -    -    -    -     -    -    -    -
System.GetVersion                             -    -    -    -    -    -    -    -    -     -    -    -    -
System.GetHealth                              -    -    -    -    -    -    -    -    -     -    -    -    -
System.GetStats                               -    -    -    -    -    -    -    .    .     -    -    -    -
System.GetEntryPoint                          -    -    -    -    -    -    -    -    -     -    -    -    -
System.GetOpenApi                             -    -    -    -    -    -    -    -    -     -    -    -    -
System.GetDocs                                -    -    -    -    -    -    -    -    -     -    -    -    -
Audit.ListAuditEntries                        -    .    .    .    .    .    .    .    .     .    .    .    -
"""
MAY = {name: dict(zip(COLUMNS, cells, strict=True)) for name, *cells in map(str.split, TABLE.strip().splitlines())}


ON_BOTH = ("researcher", "node", "all_collaboration")


def columns() -> Iterator[Any]:
    """All of them on one database; some on the other one too, since lists and their rights are SQL."""
    for column in COLUMNS:
        yield pytest.param(column, "sqlite", id=column)
        if column in ON_BOTH:
            yield pytest.param(column, "postgres", id=f"{column}-postgres", marks=pytest.mark.postgres)


def methods() -> set[str]:
    """All RPCs of the server, as Noun.Method."""
    return {
        f"{base.__name__.removesuffix('ServiceServicer')}.{method}"
        for cls in servicers()
        for base in cls.__bases__
        for method, function in vars(base).items()
        if inspect.isfunction(function)
    }


def test_the_matrix_is_complete() -> None:
    assert methods() - STREAMS == ROWS.keys()
    assert ROWS.keys() == MAY.keys()


async def stage_of(hospitals: Hospitals, column: str) -> Stage:
    """The caller of this column, with a run that its container, if it is one, belongs to."""
    live = hospitals.live
    run = await live.add_run(hospitals.shared, hospitals.a, state=int(ResultState.RUNNING))
    user_id = 0
    metadata: Metadata = ()
    if column == "node":
        metadata = await live.login_node(hospitals.api_keys["a"])
    elif column == "container":
        metadata = bearer(live.accounts.issue_container_token(run[1], run[0], hospitals.nodes["a"]))
    elif column != "anonymous":
        if column.startswith("all_"):
            await own_role(hospitals, column)
        username = "root" if column == "root" else f"{column}_a"
        metadata = await live.login(username)
        user_id = 1 if column == "root" else hospitals.users[username]
    return Stage(hospitals, column, metadata, user_id, run)


async def own_role(hospitals: Hospitals, name: str) -> None:
    """A user of hospital A with a role of its own, which holds every rule in one scope."""
    if f"{name}_a" in hospitals.users:
        return
    stubs, scope = hospitals.live.stubs, name.removeprefix("all_")
    rules = [
        role_pb2.Rule(resource=resource, operation=operation, scope=scope)
        for resource in Resource for operation in Operation
    ]  # fmt: skip
    role = role_pb2.CreateRoleRequest(name=name, rules=rules, organization_id=hospitals.a)
    await stubs.roles.CreateRole(role, metadata=hospitals.root)
    user = user_pb2.CreateUserRequest(
        username=f"{name}_a", email=f"{name}@x.example", password=PASSWORD, roles=name, organization_id=hospitals.a
    )
    hospitals.users[f"{name}_a"] = (await stubs.users.CreateUser(user, metadata=hospitals.root)).id


async def may(stub: Any, request: Any, metadata: Metadata) -> bool:
    """Whether the call got past the permissions; of a list, whether it holds the id that comes with the request."""
    request, wanted = request if isinstance(request, tuple) else (request, None)
    try:
        async with asyncio.timeout(20):
            if isinstance(stub, grpc.aio.StreamUnaryMultiCallable):
                await stub(iter([request]), metadata=metadata)
                return True
            call = stub(request, metadata=metadata)
            if isinstance(stub, grpc.aio.UnaryUnaryMultiCallable):
                await call
            elif "Event" in request.DESCRIPTOR.name or "Watch" in request.DESCRIPTOR.name:
                await call.initial_metadata()
                ended = call.done() and await call.code()
                call.cancel()
                return ended not in FORBIDDEN
            else:
                found = [message async for message in call]
                return wanted is None or wanted in {message.id for message in found}
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.INTERNAL:
            raise
        return error.code() not in FORBIDDEN
    return True


@pytest.mark.parametrize(("column", "kind"), [*columns()])
async def test_everybody_may_what_the_table_says_and_nothing_else(hospitals: Hospitals, column: str) -> None:
    found = {}
    for name, (build, places) in ROWS.items():
        noun, _, method = name.partition(".")
        letters = ""
        for place in places:
            stage = await stage_of(hospitals, column)
            request = await build(stage, place)
            stub = getattr(getattr(stage.stubs, SERVICES[noun]), method)
            letters += place if await may(stub, request, stage.metadata) else ""
        found[name] = letters or "."
    assert found == {name: {**cells}[column] for name, cells in MAY.items()}
