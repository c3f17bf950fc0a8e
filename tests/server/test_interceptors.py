"""Around every call: who is calling, what went wrong, what is logged."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import structlog

from vantage6.api.v1 import auth_pb2, organization_pb2, organization_pb2_grpc, user_pb2
from vantage6.common.errors import Internal, from_rpc_error
from vantage6.server.domain.caller import Anonymous, Caller, current_call
from vantage6.server.interceptors.audit import noted
from vantage6.server.interceptors.errors import errors
from vantage6.server.interceptors.identity import address_of, bearer, identity
from vantage6.server.interceptors.telemetry import telemetry

from .live import PASSWORD, ROOT_PASSWORD, Live, everything
from .test_accounts import refused


class Broken(organization_pb2_grpc.OrganizationServiceServicer):
    """Fails in ways that must not show."""

    async def GetOrganization(self, request: Any, context: Any) -> Any:
        raise RuntimeError("secret of the server")

    async def ListOrganizations(self, request: Any, context: Any) -> AsyncIterator[Any]:
        yield organization_pb2.Organization(name=current_call().peer)
        raise RuntimeError("secret of the server")


async def trusting(token: str) -> Caller:
    return Anonymous()


@pytest.fixture
async def broken() -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=[telemetry(), errors(), identity(trusting)])
    organization_pb2_grpc.add_OrganizationServiceServicer_to_server(Broken(), server)  # type: ignore[abstract]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield organization_pb2_grpc.OrganizationServiceStub(channel)
    await server.stop(None)


TOKEN = (("authorization", "Bearer x"), ("x-forwarded-for", "6.6.6.6, 10.1.1.1"))


@pytest.mark.attack
async def test_no_text_of_an_internal_failure_reaches_the_caller(broken: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        error = await refused(broken.GetOrganization(organization_pb2.GetOrganizationRequest(), metadata=TOKEN))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert isinstance(from_rpc_error(error), Internal)
    assert "secret" not in str(error)
    assert [line["event"] for line in lines] == ["call failed", "call"]
    assert lines[1]["status"] == "INTERNAL"
    call = broken.ListOrganizations(organization_pb2.ListOrganizationsRequest(), metadata=TOKEN)
    assert (await call.read()).name == "10.1.1.1"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert "secret" not in str(caught.value)


async def test_a_call_is_one_line_without_secrets(live: Live) -> None:
    with structlog.testing.capture_logs() as lines:
        metadata = await live.login()
        await everything(live.stubs.users.ListUsers(user_pb2.ListUsersRequest(), metadata=metadata))
        wrong = auth_pb2.CreateUserTokenRequest(username="root", password=PASSWORD)
        await refused(live.stubs.auth.CreateUserToken(wrong))
        await refused(live.stubs.users.ListUsers(user_pb2.ListUsersRequest()).read())
    assert [(line["caller"], line["status"], line["door"], line["peer"]) for line in lines] == [
        ("anonymous", "OK", "grpc", "127.0.0.1"),
        ("user:1", "OK", "grpc", "127.0.0.1"),
        ("anonymous", "UNAUTHENTICATED", "grpc", "127.0.0.1"),
        ("anonymous", "UNAUTHENTICATED", "grpc", "127.0.0.1"),
    ]
    text = str(lines)
    for secret in (ROOT_PASSWORD, PASSWORD, metadata[0][1].removeprefix("Bearer ")):
        assert secret not in text


@pytest.mark.attack
def test_the_address_is_what_the_gateway_said_last() -> None:
    assert address_of("1.1.1.1, 2.2.2.2", "ipv4:127.0.0.1:5") == "2.2.2.2"
    assert address_of(None, "ipv4:10.0.0.7:50000") == "10.0.0.7"
    assert address_of(None, "ipv6:%5B::1%5D:50000") == "::1"
    assert address_of("", "unix:") == "unix"
    assert len(address_of("x" * 500, "")) == 64


def test_bearer_tokens() -> None:
    assert bearer("Bearer abc") == bearer("bearer  abc ") == "abc"
    assert bearer(None) is bearer("Basic abc") is bearer("Bearer ") is None


@pytest.mark.parametrize(
    ("method", "outcome", "expected"),
    [("Task.DeleteTask", "PERMISSION_DENIED", True), ("Task.DeleteTask", "OK", False), ("User.UpdateUser", "OK", True),
     ("User.GetUser", "OK", False), ("Auth.CreateUserToken", "UNAUTHENTICATED", True),
     ("Auth.RefreshToken", "OK", False),
     ("Auth.RefreshToken", "UNAUTHENTICATED", True), ("Auth.CreateNodeToken", "OK", False),
     ("Auth.CreateNodeToken", "UNAUTHENTICATED", True), ("Auth.CreateUserToken", "THROTTLED", False)],
)  # fmt: skip
def test_what_the_audit_log_is_told(method: str, outcome: str, expected: bool) -> None:
    service, _, name = method.partition(".")
    assert noted(f"/vantage6.api.v1.{service}Service/{name}", outcome) is expected
