"""Users and roles, through a real server: nobody grants what they do not hold."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from vantage6.api.v1 import role_pb2, user_pb2
from vantage6.server.domain.caller import Resource

from .conftest import Hospitals
from .live import PASSWORD, Metadata, everything
from .test_accounts import refused
from .test_parties import code

Status = grpc.StatusCode


def person(name: str, **fields: Any) -> user_pb2.CreateUserRequest:
    facts = {"username": name, "email": f"{name}@new.example", "password": PASSWORD, "roles": "viewer", **fields}
    return user_pb2.CreateUserRequest(**facts)


async def create(hospitals: Hospitals, metadata: Metadata, request: user_pb2.CreateUserRequest) -> Any:
    return await hospitals.live.stubs.users.CreateUser(request, metadata=metadata)


async def update(hospitals: Hospitals, metadata: Metadata, user: int, **fields: Any) -> Any:
    request = user_pb2.UpdateUserRequest(id=user, **fields)
    return await hospitals.live.stubs.users.UpdateUser(request, metadata=metadata)


async def test_an_organization_admin_keeps_the_users_of_the_own_organization(hospitals: Hospitals) -> None:
    admin = await hospitals.live.login("organization_admin_a")
    made = await create(hospitals, admin, person("new", roles="researcher, viewer"))
    assert list(made.role_names) == ["researcher", "viewer"]
    assert made.organization_id == hospitals.a
    assert await code(create(hospitals, admin, person("x", organization_id=hospitals.b))) is Status.PERMISSION_DENIED
    listed = await everything(hospitals.live.stubs.users.ListUsers(user_pb2.ListUsersRequest(), metadata=admin))
    assert {user.organization_id for user in listed} == {hospitals.a}
    await hospitals.live.stubs.users.DeleteUser(user_pb2.DeleteUserRequest(id=made.id), metadata=admin)


@pytest.mark.attack("X05")
async def test_nobody_grants_what_they_do_not_hold(hospitals: Hospitals) -> None:
    admin = await hospitals.live.login("organization_admin_a")
    for role in ("root", "collaboration_admin"):
        assert await code(create(hospitals, admin, person("x", roles=role))) is Status.PERMISSION_DENIED
        mine = hospitals.users["organization_admin_a"]
        assert await code(update(hospitals, admin, mine, roles=role)) is Status.PERMISSION_DENIED
    researcher = await hospitals.live.login("researcher_a")
    mine = hospitals.users["researcher_a"]
    for role in ("root", "organization_admin", "researcher,viewer"):
        assert await code(update(hospitals, researcher, mine, roles=role)) is Status.PERMISSION_DENIED
    assert await code(create(hospitals, researcher, person("x"))) is Status.PERMISSION_DENIED


@pytest.mark.attack("X05")
async def test_nobody_takes_over_an_account_that_holds_more(hospitals: Hospitals) -> None:
    above = await create(hospitals, hospitals.root, person("boss", roles="root", organization_id=hospitals.a))
    admin = await hospitals.live.login("organization_admin_a")
    for change in ({"password": "i would like to be root"}, {"email": "me@evil.example"}, {"roles": ""}):
        assert await code(update(hospitals, admin, above.id, **change)) is Status.PERMISSION_DENIED
    delete = user_pb2.DeleteUserRequest(id=above.id)
    assert await code(hospitals.live.stubs.users.DeleteUser(delete, metadata=admin)) is Status.PERMISSION_DENIED


@pytest.mark.attack("X05")
async def test_the_last_root_stays(hospitals: Hospitals) -> None:
    delete = hospitals.live.stubs.users.DeleteUser
    request = user_pb2.DeleteUserRequest(id=1)
    assert await code(delete(request, metadata=hospitals.root)) is Status.FAILED_PRECONDITION
    change = update(hospitals, hospitals.root, 1, roles="viewer", organization_id=hospitals.a)
    assert await code(change) is Status.FAILED_PRECONDITION
    await create(hospitals, hospitals.root, person("second", roles="root", organization_id=hospitals.a))
    await delete(request, metadata=hospitals.root)


@pytest.mark.attack("CVE-2023-22738")
async def test_a_move_to_another_organization_strips_the_roles(hospitals: Hospitals) -> None:
    moved = await update(hospitals, hospitals.root, hospitals.users["researcher_a"], organization_id=hospitals.c)
    assert (list(moved.role_names), moved.organization_id) == ([], hospitals.c)
    admin = await hospitals.live.login("organization_admin_a")
    user = hospitals.users["viewer_a"]
    assert await code(update(hospitals, admin, user, organization_id=hospitals.c)) is Status.PERMISSION_DENIED


@pytest.mark.row("M14")
@pytest.mark.row("M15")
async def test_root_changes_and_deletes_any_user(hospitals: Hospitals) -> None:
    user = hospitals.users["viewer_c"]
    changed = await update(
        hospitals, hospitals.root, user, firstname="Ada", roles="researcher", password="set by root, for now"
    )
    assert (changed.firstname, list(changed.role_names)) == ("Ada", ["researcher"])
    await hospitals.live.login("viewer_c", "set by root, for now")
    users = hospitals.live.stubs.users
    await users.DeleteUser(user_pb2.DeleteUserRequest(id=user), metadata=hospitals.root)
    assert await code(users.GetUser(user_pb2.GetUserRequest(id=user), metadata=hospitals.root)) is Status.NOT_FOUND


@pytest.mark.row("M09")
@pytest.mark.parametrize(
    "email", ["", "ada", "ada@", "@x.example", "a b@x.example", "ada@x.example\nBcc: all@x.example"]
)
async def test_every_user_has_an_email_address(hospitals: Hospitals, email: str) -> None:
    call = create(hospitals, hospitals.root, person("new", email=email, organization_id=hospitals.a))
    assert await code(call) is Status.INVALID_ARGUMENT


@pytest.mark.row("M09")
async def test_email_addresses_are_unique_whatever_their_case(hospitals: Hospitals) -> None:
    await create(hospitals, hospitals.root, person("one", email="Ada@x.example", organization_id=hospitals.a))
    twin = person("two", email="ada@X.example", organization_id=hospitals.a)
    assert await code(create(hospitals, hospitals.root, twin)) is Status.ALREADY_EXISTS
    taken = update(hospitals, hospitals.root, hospitals.users["viewer_a"], email="ADA@x.example")
    assert await code(taken) is Status.ALREADY_EXISTS


@pytest.mark.attack
async def test_names_of_digits_are_not_ids(hospitals: Hospitals) -> None:
    call = create(hospitals, hospitals.root, person("12", organization_id=hospitals.a))
    assert await code(call) is Status.INVALID_ARGUMENT
    researcher = str(hospitals.users["researcher_a"])
    role = role_pb2.CreateRoleRequest(name="1", organization_id=hospitals.a)
    await hospitals.live.stubs.roles.CreateRole(role, metadata=hospitals.root)
    # «1» is the name of this role here, never the id of root's; what is no name at all is refused.
    mine = await create(hospitals, hospitals.root, person("one", roles="1", organization_id=hospitals.a))
    assert await code(hospitals.live.login(researcher)) is Status.UNAUTHENTICATED
    found = await hospitals.live.stubs.users.GetUser(user_pb2.GetUserRequest(id=mine.id), metadata=hospitals.root)
    assert list(found.role_names) == ["1"]
    other = create(hospitals, hospitals.root, person("two", roles="2", organization_id=hospitals.a))
    assert await code(other) is Status.INVALID_ARGUMENT


@pytest.mark.parametrize("password", ["", "short", "Password123", "x" * 300, "new", "new@new.example"])
async def test_weak_passwords_are_refused(hospitals: Hospitals, password: str) -> None:
    request = person("new", password=password, organization_id=hospitals.a)
    assert await code(create(hospitals, hospitals.root, request)) is Status.INVALID_ARGUMENT


@pytest.mark.attack
async def test_an_idempotency_key_leaves_no_fast_hash_of_the_password(hospitals: Hospitals) -> None:
    request = person("new", organization_id=hospitals.a, idempotency_key="once")
    first = await create(hospitals, hospitals.root, request)
    request.password = "another password, which is not digested"
    assert (await create(hospitals, hospitals.root, request)).id == first.id


async def test_default_roles_are_there_for_all_and_for_nobody_to_change(hospitals: Hospitals) -> None:
    roles, metadata = hospitals.live.stubs.roles, await hospitals.live.login("viewer_a")
    listed = await everything(roles.ListRoles(role_pb2.ListRolesRequest(), metadata=metadata))
    assert [role.name for role in listed] == [
        "root", "organization_admin", "collaboration_admin", "researcher", "viewer",
    ]  # fmt: skip
    change = role_pb2.UpdateRoleRequest(id=listed[4].id, name="mine")
    assert await code(roles.UpdateRole(change, metadata=hospitals.root)) is Status.FAILED_PRECONDITION
    delete = role_pb2.DeleteRoleRequest(id=listed[0].id)
    assert await code(roles.DeleteRole(delete, metadata=hospitals.root)) is Status.FAILED_PRECONDITION
    rules = await everything(roles.ListRules(role_pb2.ListRulesRequest(), metadata=metadata))
    assert len(rules) == len(Resource) * 4 * 4


@pytest.mark.attack("X05")
async def test_an_organizations_own_role_holds_no_more_than_its_maker(hospitals: Hospitals) -> None:
    roles, admin = hospitals.live.stubs.roles, await hospitals.live.login("organization_admin_a")
    look = role_pb2.Rule(resource="task", operation="view", scope="collaboration")
    too_much = role_pb2.Rule(resource="task", operation="view", scope="global")
    made = await roles.CreateRole(role_pb2.CreateRoleRequest(name="looker", rules=[look]), metadata=admin)
    assert made.organization_id == hospitals.a
    for request in (
        role_pb2.CreateRoleRequest(name="seer", rules=[too_much]),
        role_pb2.CreateRoleRequest(name="elsewhere", rules=[look], organization_id=hospitals.b),
    ):
        assert await code(roles.CreateRole(request, metadata=admin)) is Status.PERMISSION_DENIED
    lift = role_pb2.UpdateRoleRequest(id=made.id, rules=[too_much])
    assert await code(roles.UpdateRole(lift, metadata=admin)) is Status.PERMISSION_DENIED
    wrong = role_pb2.Rule(resource="task", operation="own", scope="all")
    bad = roles.CreateRole(role_pb2.CreateRoleRequest(name="bad", rules=[wrong]), metadata=admin)
    assert await code(bad) is Status.INVALID_ARGUMENT
    hidden = role_pb2.GetRoleRequest(id=made.id)
    other = await hospitals.live.login("organization_admin_b")
    assert await code(roles.GetRole(hidden, metadata=other)) is Status.NOT_FOUND
    edited = role_pb2.Rule(resource="node", operation="view", scope="organization")
    changed = await roles.UpdateRole(role_pb2.UpdateRoleRequest(id=made.id, rules=[edited]), metadata=admin)
    assert [(rule.resource, rule.scope) for rule in changed.rules] == [("node", "organization")]
    await roles.DeleteRole(role_pb2.DeleteRoleRequest(id=made.id), metadata=admin)


async def test_a_user_sees_and_names_itself_and_no_other(hospitals: Hospitals) -> None:
    metadata, mine = await hospitals.live.login("nobody_a"), hospitals.users["nobody_a"]
    assert (await update(hospitals, metadata, mine, firstname="Ada")).firstname == "Ada"
    assert await code(update(hospitals, metadata, mine, username="root2")) is Status.PERMISSION_DENIED
    other = user_pb2.GetUserRequest(id=hospitals.users["viewer_a"])
    error = await refused(hospitals.live.stubs.users.GetUser(other, metadata=metadata))
    assert error.code() is Status.NOT_FOUND
    listed = await everything(hospitals.live.stubs.users.ListUsers(user_pb2.ListUsersRequest(), metadata=metadata))
    assert [user.id for user in listed] == [mine]
