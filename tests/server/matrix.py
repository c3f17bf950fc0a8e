"""Every RPC, what to ask of it, and who gets it where: the permission matrix as data.

Callers are of hospital A. Places: `s` what is the caller's own, `a` its hospital, `b` a hospital in the same
collaboration, `c` a stranger in another one; `t` what B does for the caller's own task; `-` where there is no place. A
letter in a column says "may".
"""

from __future__ import annotations

import datetime as dt
import inspect
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from vantage6.api.v1 import (
    audit_pb2,
    auth_pb2,
    collaboration_pb2,
    event_pb2,
    node_pb2,
    organization_pb2,
    payload_pb2,
    result_pb2,
    role_pb2,
    system_pb2,
    task_pb2,
    user_pb2,
)
from vantage6.server.domain.secrets import hash_token, new_secret
from vantage6.server.domain.states import ResultState
from vantage6.server.store.security import PASSWORD_RESET
from vantage6.server.store.tables import Result, Session, Task

from .conftest import Hospitals
from .live import PASSWORD, ROOT_PASSWORD, Metadata

# The last columns: an organization's own roles, with every rule that there is in this scope.
SCOPES = ("own", "organization", "collaboration", "global")
COLUMNS = (
    "root", "organization_admin", "collaboration_admin", "researcher", "viewer", "nobody", "node", "container",
    "anonymous", *(f"all_{scope}" for scope in SCOPES),
)  # fmt: skip


def name() -> str:
    return f"n{secrets.token_hex(6)}"


@dataclass
class Stage:
    """One caller, and how to make what it shall touch."""

    hospitals: Hospitals
    column: str
    metadata: Metadata
    user_id: int
    run: tuple[Task, Result]

    @property
    def stubs(self) -> Any:
        return self.hospitals.live.stubs

    def organization(self, place: str) -> int:
        return int(getattr(self.hospitals, "a" if place in "s-" else place))

    def collaboration(self, place: str) -> int:
        return self.hospitals.other if place == "c" else self.hospitals.shared

    async def new_organization(self, _: str) -> int:
        request = organization_pb2.CreateOrganizationRequest(name=name())
        return int((await self.stubs.organizations.CreateOrganization(request, metadata=self.hospitals.root)).id)

    async def new_collaboration(self, place: str) -> int:
        members = [self.organization(place)]
        request = collaboration_pb2.CreateCollaborationRequest(name=name(), organization_ids=members)
        return int((await self.stubs.collaborations.CreateCollaboration(request, metadata=self.hospitals.root)).id)

    async def new_node(self, place: str) -> int:
        """In a new collaboration of A and B, or of C; callers see A's collaborations anew with each call."""
        members = [self.hospitals.c] if place == "c" else [self.hospitals.a, self.hospitals.b]
        make = collaboration_pb2.CreateCollaborationRequest(name=name(), organization_ids=members)
        made = await self.stubs.collaborations.CreateCollaboration(make, metadata=self.hospitals.root)
        request = node_pb2.CreateNodeRequest(organization_id=self.organization(place), collaboration_id=made.id)
        return int((await self.stubs.nodes.CreateNode(request, metadata=self.hospitals.root)).id)

    async def new_user(self, place: str) -> int:
        if place == "s":
            return self.user_id
        who = name()
        request = user_pb2.CreateUserRequest(
            username=who, email=f"{who}@x.example", password=PASSWORD, organization_id=self.organization(place)
        )
        return int((await self.stubs.users.CreateUser(request, metadata=self.hospitals.root)).id)

    async def new_role(self, place: str) -> int:
        request = role_pb2.CreateRoleRequest(name=name(), organization_id=self.organization(place))
        return int((await self.stubs.roles.CreateRole(request, metadata=self.hospitals.root)).id)

    async def new_run(self, place: str) -> tuple[Task, Result]:
        """Asked for by the place's hospital, and run by it."""
        live = self.hospitals.live
        if place == "t":
            return await self.same_task()
        task, result = await live.add_run(
            self.collaboration(place), self.organization(place), state=int(ResultState.RUNNING)
        )
        if place == "s":
            async with live.database.write() as store:
                row = await store.tasks.get(task.id)
                assert row is not None
                if self.column == "container":
                    row.parent_id = self.run[0].id
                elif self.user_id:
                    row.user_id = self.user_id
        return task, result

    async def same_task(self) -> tuple[Task, Result]:
        """Hospital B's part of the caller's own task: of its run where it is a machine."""
        task, _ = self.run if not self.user_id else await self.new_run("s")
        async with self.hospitals.live.database.write() as store:
            result = Result(task_id=task.id, organization_id=self.hospitals.b, state=int(ResultState.RUNNING), epoch=1)
            store.results.add(result)
            await store.flush()
        return task, result

    async def new_result(self, place: str) -> int:
        return (await self.new_run(place))[1].id

    def known_node(self, place: str) -> int:
        return self.hospitals.nodes[place]

    def api_key(self, _: str) -> str:
        return self.hospitals.api_keys["c"]

    async def refresh_token(self, _: str) -> str:
        request = auth_pb2.CreateUserTokenRequest(username="viewer_b", password=PASSWORD)
        return str((await self.stubs.auth.CreateUserToken(request)).refresh_token)

    async def reset_token(self, _: str) -> str:
        token, live = new_secret(), self.hospitals.live
        async with live.database.write() as store:
            late = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
            user_id = self.hospitals.users["viewer_c"]
            await store.security.add_secrets(user_id, PASSWORD_RESET, [hash_token(token)], late)
        return token

    async def new_session(self, place: str) -> int:
        """Another one of the caller, or one of somebody else."""
        owner = self.user_id if place == "s" and self.user_id else self.hospitals.users["nobody_b"]
        async with self.hospitals.live.database.write() as store:
            moment = dt.datetime.now(dt.UTC)
            row = Session(
                user_id=owner, refresh_hash=secrets.token_hex(32), created_at=moment, last_used_at=moment,
                expires_at=moment + dt.timedelta(days=1), ip="",
            )  # fmt: skip
            return (await store.accounts.add_session(row)).id

    async def new_payload(self, place: str) -> str:
        """The caller's own (`s`), else one of a researcher of the place."""
        live = self.hospitals.live
        owner = await live.login("researcher_c" if place == "c" else "researcher_a")
        request = payload_pb2.CreatePayloadRequest(
            collaboration_id=self.collaboration(place), size=70_000, sha256=bytes(32)
        )
        made = str((await self.stubs.payloads.CreatePayload(request, metadata=owner)).id)
        async with live.database.write() as store:
            row = await store.payloads.get(made)
            assert row is not None
            if place == "s":
                row.creator = self.key
            elif self.column == "researcher":
                # Of a colleague in the same hospital.
                row.creator = f"user:{self.hospitals.users['viewer_a']}"
        return made

    @property
    def key(self) -> str:
        owners = {"node": f"node:{self.hospitals.nodes['a']}", "container": f"container:{self.run[1].id}"}
        return owners.get(self.column, f"user:{self.user_id}")

    @property
    def password(self) -> str:
        return ROOT_PASSWORD if self.column == "root" else PASSWORD


Build = Callable[[Stage, str], Awaitable[Any]]


def made(message: Callable[..., Any], target: str = "", field: str = "id", **fields: Any) -> Build:
    """A request with the id of something that `Stage.<target>` makes or knows."""

    async def build(stage: Stage, place: str) -> Any:
        if not target:
            return message(**fields)
        found = getattr(stage, target)(place)
        number = await found if inspect.isawaitable(found) else found
        return message(**{field: number[0].id if isinstance(number, tuple) else number}, **fields)

    return build


def with_names(message: Callable[..., Any], *names: str, **facts: str) -> Build:
    """A creating request: fresh names, and facts of the place by the methods of Stage."""

    async def build(stage: Stage, place: str) -> Any:
        fields = {field: name() for field in names}
        return message(**fields, **{field: getattr(stage, fact)(place) for field, fact in facts.items()})

    return build


async def create_user(stage: Stage, place: str) -> Any:
    who = name()
    return user_pb2.CreateUserRequest(
        username=who, email=f"{who}@x.example", password=PASSWORD, organization_id=stage.organization(place)
    )


async def create_node(stage: Stage, place: str) -> Any:
    members = [stage.hospitals.c] if place == "c" else [stage.hospitals.a, stage.hospitals.b]
    make = collaboration_pb2.CreateCollaborationRequest(name=name(), organization_ids=members)
    study = await stage.stubs.collaborations.CreateCollaboration(make, metadata=stage.hospitals.root)
    return node_pb2.CreateNodeRequest(organization_id=stage.organization(place), collaboration_id=study.id)


async def create_task(stage: Stage, place: str) -> Any:
    study = stage.collaboration(place)
    async with stage.hospitals.live.database.write() as store:
        row = await store.parties.collaboration(study)
        assert row is not None
        row.encrypted = False
    target = task_pb2.TaskOrganization(id=stage.organization(place), input=b"json.{}")
    return task_pb2.CreateTaskRequest(collaboration_id=study, image="image", organizations=[target])


async def member_change(stage: Stage, place: str, message: Any, *, there: bool) -> Any:
    """Of a study of A and B (`a`), or of C (`c`)."""
    study = await stage.new_collaboration(place)
    organization = await stage.new_organization("")
    if there:
        add = collaboration_pb2.AddCollaborationOrganizationRequest(collaboration_id=study, id=organization)
        await stage.stubs.collaborations.AddCollaborationOrganization(add, metadata=stage.hospitals.root)
    return message(collaboration_id=study, id=organization)


async def add_member(stage: Stage, place: str) -> Any:
    return await member_change(stage, place, collaboration_pb2.AddCollaborationOrganizationRequest, there=False)


async def remove_member(stage: Stage, place: str) -> Any:
    return await member_change(stage, place, collaboration_pb2.RemoveCollaborationOrganizationRequest, there=True)


async def container_token(stage: Stage, place: str) -> Any:
    _, result = await stage.new_run(place)
    return auth_pb2.CreateContainerTokenRequest(result_id=result.id, image="image")


async def create_payload(stage: Stage, place: str) -> Any:
    result: dict[str, Any] = {"result_id": stage.run[1].id} if stage.column == "node" else {}
    study = stage.collaboration(place)
    return payload_pb2.CreatePayloadRequest(collaboration_id=study, size=70_000, sha256=bytes(32), **result)


async def write_payload(stage: Stage, place: str) -> Any:
    return payload_pb2.WritePayloadRequest(id=await stage.new_payload(place), offset=0)


async def first_factor(stage: Stage, place: str) -> Any:
    return auth_pb2.CreateSecondFactorRequest(password=stage.password)


async def confirm_factor(stage: Stage, place: str) -> Any:
    """There is none to confirm: who gets so far, gets past the permissions."""
    async with stage.hospitals.live.database.write() as store:
        await store.security.remove_second_factor(stage.user_id)
    return auth_pb2.ConfirmSecondFactorRequest(mfa_code="000000")


async def lift_factor(stage: Stage, place: str) -> Any:
    return auth_pb2.DeleteSecondFactorRequest(user_id=await stage.new_user(place), password=stage.password)


async def watch(stage: Stage, place: str) -> Any:
    task, _ = await stage.new_run(place)
    return event_pb2.WatchRequest(task_id=task.id)


async def stream_events(stage: Stage, place: str) -> Any:
    task, _ = await stage.new_run(place)
    return event_pb2.StreamEventsRequest(task_id=task.id)


def listed(message: Callable[..., Any], target: str) -> Build:
    """A list, and the id that the caller should find in it, or not."""

    async def build(stage: Stage, place: str) -> Any:
        found = getattr(stage, target)(place)
        number = await found if inspect.isawaitable(found) else found
        if isinstance(number, tuple):
            number = number[1 if message is result_pb2.ListResultsRequest else 0].id
        return message(), number

    return build


async def task_results(stage: Stage, place: str) -> Any:
    task, _ = await stage.new_run(place)
    return task_pb2.ListTaskResultsRequest(task_id=task.id)


O, C, N, U = organization_pb2, collaboration_pb2, node_pb2, user_pb2  # noqa: E741
R, T, P, A, S = role_pb2, task_pb2, payload_pb2, auth_pb2, system_pb2

# RPC: how to ask for it, and in which places.
ROWS: dict[str, tuple[Build, str]] = {
    "Organization.GetOrganization": (made(O.GetOrganizationRequest, "organization"), "abc"),
    "Organization.ListOrganizations": (listed(O.ListOrganizationsRequest, "organization"), "abc"),
    "Organization.CreateOrganization": (with_names(O.CreateOrganizationRequest, "name"), "-"),
    "Organization.UpdateOrganization": (made(O.UpdateOrganizationRequest, "organization", domain="x.example"), "abc"),
    "Organization.DeleteOrganization": (made(O.DeleteOrganizationRequest, "new_organization"), "-"),
    "Collaboration.GetCollaboration": (made(C.GetCollaborationRequest, "collaboration"), "ac"),
    "Collaboration.ListCollaborations": (listed(C.ListCollaborationsRequest, "collaboration"), "ac"),
    "Collaboration.CreateCollaboration": (with_names(C.CreateCollaborationRequest, "name"), "-"),
    "Collaboration.UpdateCollaboration": (made(C.UpdateCollaborationRequest, "new_collaboration"), "ac"),
    "Collaboration.DeleteCollaboration": (made(C.DeleteCollaborationRequest, "new_collaboration"), "ac"),
    "Collaboration.AddCollaborationOrganization": (add_member, "ac"),
    "Collaboration.RemoveCollaborationOrganization": (remove_member, "ac"),
    "Node.GetNode": (made(N.GetNodeRequest, "known_node"), "abc"),
    "Node.ListNodes": (listed(N.ListNodesRequest, "known_node"), "abc"),
    "Node.CreateNode": (create_node, "abc"),
    "Node.UpdateNode": (made(N.UpdateNodeRequest, "new_node"), "abc"),
    "Node.DeleteNode": (made(N.DeleteNodeRequest, "new_node"), "abc"),
    "Node.ResetNodeApiKey": (made(N.ResetNodeApiKeyRequest, "new_node"), "abc"),
    "User.GetUser": (made(U.GetUserRequest, "new_user"), "sabc"),
    "User.ListUsers": (listed(U.ListUsersRequest, "new_user"), "sabc"),
    "User.CreateUser": (create_user, "abc"),
    "User.UpdateUser": (made(U.UpdateUserRequest, "new_user", firstname="Ada"), "sabc"),
    "User.DeleteUser": (made(U.DeleteUserRequest, "new_user"), "abc"),
    "Role.GetRole": (made(R.GetRoleRequest, "new_role"), "abc"),
    "Role.ListRoles": (listed(R.ListRolesRequest, "new_role"), "abc"),
    "Role.CreateRole": (with_names(R.CreateRoleRequest, "name", organization_id="organization"), "abc"),
    "Role.UpdateRole": (made(R.UpdateRoleRequest, "new_role", description="x"), "abc"),
    "Role.DeleteRole": (made(R.DeleteRoleRequest, "new_role"), "abc"),
    "Role.ListRules": (made(R.ListRulesRequest), "-"),
    "Task.GetTask": (made(T.GetTaskRequest, "new_run"), "sabc"),
    "Task.ListTasks": (listed(T.ListTasksRequest, "new_run"), "sabc"),
    "Task.CreateTask": (create_task, "abc"),
    "Task.CancelTask": (made(T.CancelTaskRequest, "new_run"), "sabc"),
    "Task.DeleteTask": (made(T.DeleteTaskRequest, "new_run"), "sabc"),
    "Task.ListTaskResults": (task_results, "sabc"),
    "Result.GetResult": (made(result_pb2.GetResultRequest, "new_result"), "sabct"),
    "Result.ListResults": (listed(result_pb2.ListResultsRequest, "new_run"), "sabct"),
    "Event.Watch": (watch, "sabc"),
    "Event.StreamEvents": (stream_events, "sabc"),
    "Payload.CreatePayload": (create_payload, "ac"),
    "Payload.WritePayload": (write_payload, "sac"),
    "Payload.GetPayload": (made(P.GetPayloadRequest, "new_payload"), "sac"),
    "Payload.ReadPayload": (made(P.ReadPayloadRequest, "new_payload"), "sac"),
    "Payload.DeletePayload": (made(P.DeletePayloadRequest, "new_payload"), "sac"),
    "Auth.CreateUserToken": (made(A.CreateUserTokenRequest, username="viewer_b", password=PASSWORD), "-"),
    "Auth.CreateNodeToken": (made(A.CreateNodeTokenRequest, "api_key", field="api_key"), "-"),
    "Auth.CreateContainerToken": (container_token, "abc"),
    "Auth.RefreshToken": (made(A.RefreshTokenRequest, "refresh_token", field="refresh_token"), "-"),
    "Auth.RevokeToken": (made(A.RevokeTokenRequest), "-"),
    "Auth.ListSessions": (made(A.ListSessionsRequest), "-"),
    "Auth.DeleteSession": (made(A.DeleteSessionRequest, "new_session"), "sa"),
    "Auth.CreateSecondFactor": (first_factor, "-"),
    "Auth.ConfirmSecondFactor": (confirm_factor, "-"),
    "Auth.DeleteSecondFactor": (lift_factor, "sabc"),
    "Auth.LosePassword": (with_names(A.LosePasswordRequest, "username"), "-"),
    "Auth.ResetPassword": (made(A.ResetPasswordRequest, "reset_token", field="reset_token", password=PASSWORD), "-"),
    "System.GetVersion": (made(S.GetVersionRequest), "-"),
    "System.GetHealth": (made(S.GetHealthRequest), "-"),
    "System.GetStats": (made(S.GetStatsRequest), "-"),
    "System.GetEntryPoint": (made(S.GetEntryPointRequest), "-"),
    "System.GetOpenApi": (made(S.GetOpenApiRequest), "-"),
    "System.GetDocs": (made(S.GetDocsRequest), "-"),
    "Audit.ListAuditEntries": (made(audit_pb2.ListAuditEntriesRequest), "-"),
}  # fmt: skip
