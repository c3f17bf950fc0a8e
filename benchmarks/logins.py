"""What a flood of wrong passwords for one account costs those who work: as much as so many calls of any other kind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc

from benchmarks.deployment import PASSWORD, deployment, populate
from benchmarks.harness import Bench, Row, Samples, Table, milliseconds, take_turns
from vantage6.api.v1 import auth_pb2, organization_pb2, system_pb2
from vantage6.api.v1.auth_pb2_grpc import AuthServiceStub
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.api.v1.system_pb2_grpc import SystemServiceStub

BAR = 1.5
AT_ONCE = 20

Crowd = Callable[[int], Awaitable[object]]


async def run(bench: Bench) -> Table:
    async with deployment(bench.folder / "logins", gateway=False) as made:
        await populate(made, 2)
        ask = organization_pb2.GetOrganizationRequest(id=made.parties[0].organization_id)
        async with made.channel() as crowd, made.channel() as one, made.channel(made.root_token) as root:
            known = auth_pb2.CreateUserTokenRequest(username="researcher", password=PASSWORD)

            async def log_in() -> None:
                await AuthServiceStub(one).CreateUserToken(known, metadata=(("x-forwarded-for", "10.0.0.1"),))

            async def call() -> None:
                await OrganizationServiceStub(root).GetOrganization(ask)

            async def guess(number: int) -> grpc.StatusCode:
                """From many addresses at one account: that is what has to hold it up."""
                request = auth_pb2.CreateUserTokenRequest(username="root", password="a guess")
                try:
                    where = (("x-forwarded-for", f"10.1.0.{number}"),)
                    await AuthServiceStub(crowd).CreateUserToken(request, metadata=where)
                except grpc.aio.AioRpcError as error:
                    return error.code()
                raise AssertionError("that was the password")

            async def harmless(_number: int) -> None:
                await SystemServiceStub(crowd).GetVersion(system_pb2.GetVersionRequest())

            found = await asyncio.gather(*map(guess, range(AT_ONCE)))
            assert grpc.StatusCode.RESOURCE_EXHAUSTED in found, "the brake does not hold"
            works = [
                milliseconds(log_in), among(harmless, log_in), among(guess, log_in), milliseconds(call),
                among(harmless, call), among(guess, call),
            ]  # fmt: skip
            for work in works * 3:
                await work()
            own = [Samples(values) for values in await take_turns(bench.repeat(100, 20), *works)]
    rows = [
        Row("log-in, alone", own[0]),
        Row(f"log-in of another user, with {AT_ONCE} calls of GetVersion at once", own[1]),
        Row(f"the same, with {AT_ONCE} guesses at one account at once", own[2], own[1], BAR),
        Row("GetOrganization, alone", own[3]),
        Row(f"GetOrganization, with {AT_ONCE} calls of GetVersion at once", own[4]),
        Row(f"the same, with {AT_ONCE} guesses at one account at once", own[5], own[4], BAR),
    ]
    note = (
        "By gRPC, straight to the server. The account that is guessed at is braked after five guesses, and heard again "
        "after 1, 2, 4 … s: those are checked while we measure, as they would be. What is measured are the others."
    )
    return Table("logins: what guesses at one account cost the others", rows, [note])


def among(crowd: Crowd, work: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[float]]:
    """How long a work takes that begins behind so many others."""

    async def timed() -> float:
        others = [asyncio.create_task(ask(crowd, number)) for number in range(AT_ONCE)]
        await asyncio.sleep(0)  # They are on their way.
        taken = await milliseconds(work)()
        await asyncio.gather(*others)
        return taken

    return timed


async def ask(crowd: Crowd, number: int) -> None:
    await crowd(number)
