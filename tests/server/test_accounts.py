"""Log-in, sessions and tokens, through a real server."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

import grpc
import jwt
import pytest

from vantage6.api.v1 import auth_pb2, node_pb2, organization_pb2, system_pb2, user_pb2
from vantage6.common.errors import from_rpc_error
from vantage6.server.domain.states import ResultState

from .conftest import Hospitals
from .live import PASSWORD, ROOT_PASSWORD, Live, bearer, everything

Status = grpc.StatusCode


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def login(live: Live, username: str = "root", password: str = ROOT_PASSWORD) -> auth_pb2.TokenResponse:
    answer = await live.stubs.auth.CreateUserToken(
        auth_pb2.CreateUserTokenRequest(username=username, password=password)
    )
    assert isinstance(answer, auth_pb2.TokenResponse)
    return answer


async def whoami(live: Live, token: str) -> Any:
    return await live.stubs.users.GetUser(user_pb2.GetUserRequest(id=1), metadata=bearer(token))


async def test_a_user_logs_in_and_is_known(live: Live) -> None:
    answer = await login(live)
    assert answer.user_url == "/api/user/1"
    assert not answer.HasField("node_url")
    assert answer.refresh_url == "/api/token/refresh"
    assert answer.expires_in == 1800
    root = await whoami(live, answer.access_token)
    assert (root.username, root.email) == ("root", "root@localhost")


async def test_the_claims_are_where_programs_for_1x_look(live: Live) -> None:
    claims = jwt.decode((await login(live)).access_token, options={"verify_signature": False})
    assert claims["identity"] == 1
    assert claims["user_claims"] == {"type": "user", "roles": ["root"]}
    assert claims["type"] == "access"
    assert claims["fresh"] is False
    assert {"iat", "nbf", "exp", "jti", "sub"} <= claims.keys()


async def test_without_a_token_nothing_is_shown(live: Live) -> None:
    error = await refused(live.stubs.users.GetUser(user_pb2.GetUserRequest(id=1)))
    assert error.code() is Status.UNAUTHENTICATED
    assert from_rpc_error(error).reason == "UNAUTHENTICATED"
    assert (await live.stubs.system.GetHealth(system_pb2.GetHealthRequest())).status == "ok"


@pytest.mark.attack("CVE-2022-39228")
async def test_unknown_user_and_wrong_password_get_the_same_answer(live: Live) -> None:
    for _ in range(7):  # Beyond the point where it is throttled: that must not tell either.
        answers = [
            await refused(login(live, username, "not the password")) for username in ("root", "nobody of this name")
        ]
        known, unknown = ((error.code(), error.details()) for error in answers)
        assert known == unknown
    assert known[0] is Status.RESOURCE_EXHAUSTED


@pytest.mark.attack("CVE-2025-43863")
async def test_a_throttled_account_does_not_hear_the_right_password(live: Live) -> None:
    for _ in range(6):
        await refused(login(live, password="not the password"))
    error = from_rpc_error(await refused(login(live)))
    assert error.reason == "THROTTLED"
    assert int(error.metadata["retry_after"]) >= 1


@pytest.mark.attack("CVE-2023-23929")
async def test_a_refresh_token_is_good_once_and_its_second_use_ends_the_session(live: Live) -> None:
    first = await login(live)
    refresh = live.stubs.auth.RefreshToken
    second = await refresh(auth_pb2.RefreshTokenRequest(refresh_token=first.refresh_token))
    assert (await whoami(live, second.access_token)).id == 1
    stolen = await refused(refresh(auth_pb2.RefreshTokenRequest(refresh_token=first.refresh_token)))
    assert stolen.code() is Status.UNAUTHENTICATED
    for token in (first.access_token, second.access_token):
        assert (await refused(whoami(live, token))).code() is Status.UNAUTHENTICATED
    victim = await refused(refresh(auth_pb2.RefreshTokenRequest(refresh_token=second.refresh_token)))
    assert victim.code() is Status.UNAUTHENTICATED


async def test_a_refresh_token_may_come_in_the_metadata(live: Live) -> None:
    first = await login(live)
    answer = await live.stubs.auth.RefreshToken(auth_pb2.RefreshTokenRequest(), metadata=bearer(first.refresh_token))
    assert (await whoami(live, answer.access_token)).id == 1


@pytest.mark.attack
async def test_tokens_are_not_interchangeable(live: Live) -> None:
    tokens = await login(live)
    assert (await refused(whoami(live, tokens.refresh_token))).code() is Status.UNAUTHENTICATED
    call = live.stubs.auth.RefreshToken(auth_pb2.RefreshTokenRequest(refresh_token=tokens.access_token))
    assert (await refused(call)).code() is Status.UNAUTHENTICATED


def unsigned(claims: dict[str, Any]) -> str:
    parts = ({"alg": "none", "typ": "JWT"}, claims)
    head, body = (base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts)
    return f"{head}.{body}."


@pytest.mark.attack("GHSA-m3mq-f375-5vgh")
async def test_forged_expired_and_unsigned_tokens_are_refused(live: Live) -> None:
    good = (await login(live)).access_token
    claims = jwt.decode(good, options={"verify_signature": False})
    past = int((dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)).timestamp())
    secret = live.tokens._secret
    forgeries = {
        "unsigned": unsigned(claims),
        "other key": jwt.encode(claims, "another secret that is just as long as ours is", algorithm="HS256"),
        "expired": jwt.encode({**claims, "exp": past}, secret, algorithm="HS256"),
        "no expiry": jwt.encode({key: claims[key] for key in claims if key != "exp"}, secret, algorithm="HS256"),
        "other algorithm": jwt.encode(claims, secret, algorithm="HS512"),
        "edited": good[:-3] + ("AAA" if good[-3:] != "AAA" else "BBB"),
        "rubbish": "not.a.token",
    }
    for name, token in forgeries.items():
        assert (await refused(whoami(live, token))).code() is Status.UNAUTHENTICATED, name
    assert (await whoami(live, good)).id == 1


async def test_a_session_can_be_ended(live: Live) -> None:
    here, there = await login(live), await login(live)
    mine = bearer(here.access_token)
    sessions = await everything(live.stubs.auth.ListSessions(auth_pb2.ListSessionsRequest(), metadata=mine))
    assert [session.current for session in sessions] == [True, False]
    await live.stubs.auth.DeleteSession(auth_pb2.DeleteSessionRequest(id=sessions[1].id), metadata=mine)
    assert (await refused(whoami(live, there.access_token))).code() is Status.UNAUTHENTICATED
    await live.stubs.auth.RevokeToken(auth_pb2.RevokeTokenRequest(), metadata=mine)
    assert (await refused(whoami(live, here.access_token))).code() is Status.UNAUTHENTICATED


async def test_nobody_ends_anothers_session(hospitals: Hospitals) -> None:
    metadata = await hospitals.live.login("researcher_a")
    call = hospitals.live.stubs.auth.DeleteSession(auth_pb2.DeleteSessionRequest(id=1), metadata=metadata)
    assert (await refused(call)).code() is Status.NOT_FOUND


async def test_a_node_logs_in_with_its_key(hospitals: Hospitals) -> None:
    stubs = hospitals.live.stubs
    metadata = await hospitals.live.login_node(hospitals.api_keys["a"])
    nodes = await everything(stubs.nodes.ListNodes(node_pb2.ListNodesRequest(), metadata=metadata))
    assert [node.id for node in nodes] == [hospitals.nodes["a"]]
    organizations = await everything(
        stubs.organizations.ListOrganizations(organization_pb2.ListOrganizationsRequest(), metadata=metadata)
    )
    assert [organization.id for organization in organizations] == [hospitals.a, hospitals.b]
    error = await refused(hospitals.live.login_node("no such key"))
    assert error.code() is Status.UNAUTHENTICATED


async def test_a_new_api_key_ends_the_old_one_and_its_sessions(hospitals: Hospitals) -> None:
    live, node = hospitals.live, hospitals.nodes["a"]
    old = await live.login_node(hospitals.api_keys["a"])
    request = node_pb2.ResetNodeApiKeyRequest(id=node)
    fresh = await live.stubs.nodes.ResetNodeApiKey(request, metadata=hospitals.root)
    assert live.gone.nodes == [node]
    call = live.stubs.nodes.GetNode(node_pb2.GetNodeRequest(id=node), metadata=old)
    assert (await refused(call)).code() is Status.UNAUTHENTICATED
    assert (await refused(live.login_node(hospitals.api_keys["a"]))).code() is Status.UNAUTHENTICATED
    again = await live.login_node(fresh.api_key)
    assert (await live.stubs.nodes.GetNode(node_pb2.GetNodeRequest(id=node), metadata=again)).api_key == ""


async def container_token(hospitals: Hospitals, letter: str, **fields: Any) -> str:
    metadata = await hospitals.live.login_node(hospitals.api_keys[letter])
    request = auth_pb2.CreateContainerTokenRequest(**fields)
    answer = await hospitals.live.stubs.auth.CreateContainerToken(request, metadata=metadata)
    return str(answer.container_token)


@pytest.mark.attack("X03")
@pytest.mark.parametrize("end", ["final", "assigned anew", "deleted"])
async def test_a_container_token_ends_with_its_run(hospitals: Hospitals, end: str) -> None:
    live = hospitals.live
    task, result = await live.add_run(hospitals.shared, hospitals.a, ResultState.RUNNING)
    token = bearer(await container_token(hospitals, "a", result_id=result.id, image="image"))

    def look() -> Any:
        request = organization_pb2.GetOrganizationRequest(id=hospitals.b)
        return live.stubs.organizations.GetOrganization(request, metadata=token)

    assert (await look()).name == "Hospital B"
    async with live.database.write() as store:
        row = await store.results.get(result.id)
        assert row is not None
        if end == "final":
            row.state = ResultState.COMPLETED
        elif end == "assigned anew":
            row.epoch += 1
        else:
            parent = await store.tasks.get(task.id)
            assert parent is not None
            await store.tasks.delete(parent)
    assert (await refused(look())).code() is Status.UNAUTHENTICATED


@pytest.mark.attack("X02")
async def test_no_node_gets_a_container_token_for_anothers_run(hospitals: Hospitals) -> None:
    _, result = await hospitals.live.add_run(hospitals.shared, hospitals.a, ResultState.RUNNING)
    # The same organization's run, but in a collaboration where this node is not.
    _, elsewhere = await hospitals.live.add_run(hospitals.other, hospitals.a, ResultState.RUNNING)
    for letter, result_id in (("b", result.id), ("c", result.id), ("a", elsewhere.id), ("a", 999)):
        error = await refused(container_token(hospitals, letter, result_id=result_id, image="image"))
        assert error.code() is Status.NOT_FOUND, letter


@pytest.mark.attack
async def test_a_container_token_is_for_the_tasks_image_and_an_open_result(hospitals: Hospitals) -> None:
    task, result = await hospitals.live.add_run(hospitals.shared, hospitals.a, ResultState.RUNNING)
    for image in ("evil.example/image", "image:2", ""):
        error = await refused(container_token(hospitals, "a", result_id=result.id, image=image))
        assert error.code() is Status.FAILED_PRECONDITION
    assert await container_token(hospitals, "a", task_id=task.id, image="image")
    _, finished = await hospitals.live.add_run(hospitals.shared, hospitals.a, ResultState.FAILED)
    error = await refused(container_token(hospitals, "a", result_id=finished.id, image="image"))
    assert error.code() is Status.FAILED_PRECONDITION


@pytest.mark.attack("X03")
async def test_a_container_may_not_act_as_a_user_or_a_node(hospitals: Hospitals) -> None:
    live = hospitals.live
    _, result = await live.add_run(hospitals.shared, hospitals.a, ResultState.RUNNING)
    token = bearer(await container_token(hospitals, "a", result_id=result.id, image="image"))
    calls = [
        live.stubs.users.ListUsers(user_pb2.ListUsersRequest(), metadata=token),
        live.stubs.nodes.ListNodes(node_pb2.ListNodesRequest(), metadata=token),
        live.stubs.organizations.ListOrganizations(organization_pb2.ListOrganizationsRequest(), metadata=token),
    ]
    assert (await refused(everything(calls[0]))).code() is Status.PERMISSION_DENIED
    assert await everything(calls[1]) == []
    assert {organization.id for organization in await everything(calls[2])} == {hospitals.a, hospitals.b}
    update = organization_pb2.UpdateOrganizationRequest(id=hospitals.a, public_key=b"-----BEGIN PUBLIC KEY-----")
    error = await refused(live.stubs.organizations.UpdateOrganization(update, metadata=token))
    assert error.code() is Status.PERMISSION_DENIED
    again = auth_pb2.CreateContainerTokenRequest(result_id=result.id, image="image")
    error = await refused(live.stubs.auth.CreateContainerToken(again, metadata=token))
    assert error.code() is Status.PERMISSION_DENIED


async def test_changing_the_password_wants_the_old_one_and_ends_the_other_sessions(hospitals: Hospitals) -> None:
    live, user = hospitals.live, hospitals.users["viewer_a"]
    here, there = await live.login("viewer_a"), await live.login("viewer_a")
    change = user_pb2.UpdateUserRequest(id=user, password="another good long one")
    assert (await refused(live.stubs.users.UpdateUser(change, metadata=here))).code() is Status.UNAUTHENTICATED
    change.current_password = PASSWORD
    await live.stubs.users.UpdateUser(change, metadata=here)
    get = user_pb2.GetUserRequest(id=user)
    assert (await live.stubs.users.GetUser(get, metadata=here)).id == user
    assert (await refused(live.stubs.users.GetUser(get, metadata=there))).code() is Status.UNAUTHENTICATED
    await live.login("viewer_a", "another good long one")
