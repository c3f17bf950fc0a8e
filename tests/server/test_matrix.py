"""The permission matrix: every RPC x every role x every place. An RPC without a row fails here."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import grpc
import pytest

from vantage6.server.domain.states import ResultState

from .conftest import Hospitals
from .live import Metadata, bearer
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

# The columns: root, organization and collaboration admin, researcher, viewer, nobody, node, container, anonymous.
# Where each may do it, or (in a list) whose it sees: the letters of matrix.py, "." for nowhere.
TABLE = """
Organization.GetOrganization                  abc  ab   ab   ab   ab   a    ab   ab   .
Organization.ListOrganizations                abc  ab   ab   ab   ab   a    ab   ab   .
Organization.CreateOrganization               -    .    .    .    .    .    .    .    .
Organization.UpdateOrganization               abc  a    .    .    .    .    a    .    .
Organization.DeleteOrganization               -    .    .    .    .    .    .    .    .
Collaboration.GetCollaboration                ac   a    a    a    a    .    a    a    .
Collaboration.ListCollaborations              ac   a    a    a    a    .    a    a    .
Collaboration.CreateCollaboration             -    .    .    .    .    .    .    .    .
Collaboration.UpdateCollaboration             ac   .    a    .    .    .    .    .    .
Collaboration.DeleteCollaboration             ac   .    a    .    .    .    .    .    .
Collaboration.AddCollaborationOrganization    ac   .    .    .    .    .    .    .    .
Collaboration.RemoveCollaborationOrganization ac   .    a    .    .    .    .    .    .
Node.GetNode                                  abc  ab   ab   ab   ab   .    a    .    .
Node.ListNodes                                abc  ab   ab   ab   ab   .    a    .    .
Node.CreateNode                               abc  a    ab   .    .    .    .    .    .
Node.UpdateNode                               abc  a    ab   .    .    .    .    .    .
Node.DeleteNode                               abc  a    ab   .    .    .    .    .    .
Node.ResetNodeApiKey                          abc  a    ab   .    .    .    .    .    .
User.GetUser                                  sabc sa   s    s    s    s    .    .    .
User.ListUsers                                sabc sa   s    s    s    s    .    .    .
User.CreateUser                               abc  a    .    .    .    .    .    .    .
User.UpdateUser                               sabc sa   s    s    s    s    .    .    .
User.DeleteUser                               abc  a    .    .    .    .    .    .    .
Role.GetRole                                  abc  a    a    .    .    .    .    .    .
Role.ListRoles                                abc  a    a    .    .    .    .    .    .
Role.CreateRole                               abc  a    .    .    .    .    .    .    .
Role.UpdateRole                               abc  a    .    .    .    .    .    .    .
Role.DeleteRole                               abc  a    .    .    .    .    .    .    .
Role.ListRules                                -    -    -    -    -    -    .    .    .
Task.GetTask                                  sabc sab  sab  sab  sab  .    sa   s    .
Task.ListTasks                                sabc sab  sab  sab  sab  .    sa   s    .
Task.CreateTask                               abc  ab   ab   ab   .    .    .    ab   .
Task.CancelTask                               sabc sa   sab  s    .    .    .    s    .
Task.DeleteTask                               sabc sa   sab  s    .    .    .    s    .
Task.ListTaskResults                          sabc sab  sab  sab  sab  .    sa   s    .
Result.GetResult                              sabc sab  sab  sab  sab  .    sa   s    .
Result.ListResults                            sabc sab  sab  sab  sab  .    sa   s    .
Event.Watch                                   sabc sab  sab  sab  sab  .    .    s    .
Event.StreamEvents                            sabc sab  sab  sab  sab  .    .    s    .
Payload.CreatePayload                         .    a    a    a    .    .    a    a    .
Payload.WritePayload                          s    s    s    s    s    s    s    s    .
Payload.GetPayload                            s    s    s    s    s    s    s    s    .
Payload.ReadPayload                           s    s    s    s    s    s    s    s    .
Payload.DeletePayload                         s    s    s    s    s    s    s    s    .
Auth.CreateUserToken                          -    -    -    -    -    -    -    -    -
Auth.CreateNodeToken                          -    -    -    -    -    -    -    -    -
Auth.CreateContainerToken                     .    .    .    .    .    .    a    .    .
Auth.RefreshToken                             -    -    -    -    -    -    -    -    -
Auth.RevokeToken                              -    -    -    -    -    -    -    .    .
Auth.ListSessions                             -    -    -    -    -    -    .    .    .
Auth.DeleteSession                            s    s    s    s    s    s    .    .    .
Auth.CreateSecondFactor                       -    -    -    -    -    -    .    .    .
Auth.ConfirmSecondFactor                      -    -    -    -    -    -    .    .    .
Auth.DeleteSecondFactor                       sabc sa   s    s    s    s    .    .    .
Auth.LosePassword                             -    -    -    -    -    -    -    -    -
Auth.ResetPassword                            -    -    -    -    -    -    -    -    -
System.GetVersion                             -    -    -    -    -    -    -    -    -
System.GetHealth                              -    -    -    -    -    -    -    -    -
System.GetStats                               -    -    -    -    -    -    -    .    .
System.GetEntryPoint                          -    -    -    -    -    -    -    -    -
System.GetOpenApi                             -    -    -    -    -    -    -    -    -
System.GetDocs                                -    -    -    -    -    -    -    -    -
Audit.ListAuditEntries                        -    .    .    .    .    .    .    .    .
"""
MAY = {name: dict(zip(COLUMNS, cells, strict=True)) for name, *cells in map(str.split, TABLE.strip().splitlines())}


@pytest.fixture
def kind() -> str:
    """One database is enough: rights do not hang on it."""
    return "sqlite"


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
        username = "root" if column == "root" else f"{column}_a"
        metadata = await live.login(username)
        user_id = 1 if column == "root" else hospitals.users[username]
    return Stage(hospitals, column, metadata, user_id, run)


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


@pytest.mark.parametrize("column", COLUMNS)
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
