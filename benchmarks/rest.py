"""A REST call through Envoy, against the same call by gRPC straight to the server."""

from __future__ import annotations

import ssl

import httpx

from benchmarks.deployment import deployment, populate
from benchmarks.harness import Bench, Row, Samples, Table, milliseconds, take_turns
from vantage6.api.v1 import organization_pb2, system_pb2
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.api.v1.system_pb2_grpc import SystemServiceStub

BAR = 2.5


async def run(bench: Bench) -> Table:
    async with deployment(bench.folder / "rest") as made:
        await populate(made, 2)
        assert made.ca_file
        id_ = made.parties[0].organization_id
        context = ssl.create_default_context(cafile=str(made.ca_file))
        headers = {"authorization": f"Bearer {made.root_token}"}
        async with (
            made.channel(made.root_token, made.direct) as direct,
            made.channel(made.root_token) as through,
            httpx.AsyncClient(base_url=made.url, headers=headers, verify=context) as web,
        ):
            ask = organization_pb2.GetOrganizationRequest(id=id_)
            bare, gateway = OrganizationServiceStub(direct), OrganizationServiceStub(through)

            async def rest() -> None:
                answer = await web.get(f"/api/organization/{id_}")
                answer.raise_for_status()

            async def rest_open() -> None:
                answer = await web.get("/api/version")
                answer.raise_for_status()

            version = system_pb2.GetVersionRequest()
            works = [
                milliseconds(lambda: bare.GetOrganization(ask)),
                milliseconds(lambda: gateway.GetOrganization(ask)),
                milliseconds(rest),
                milliseconds(lambda: SystemServiceStub(direct).GetVersion(version)),
                milliseconds(rest_open),
            ]
            for work in works * 20:
                await work()
            own = [Samples(values) for values in await take_turns(bench.repeat(500, 150), *works)]
    rows = [
        Row("gRPC direct, GetOrganization", own[0]),
        Row("gRPC through the gateway, TLS", own[1], own[0]),
        Row("REST through the gateway, TLS", own[2], own[0], BAR),
        Row("gRPC direct, GetVersion", own[3]),
        Row("REST through the gateway, TLS", own[4], own[3], BAR),
    ]
    note = (
        "The REST answer of the first carries links, made from the caller's rules; the gRPC one does not. The second "
        "has no links, no token and no database: there the gateway alone is measured, TLS against none."
    )
    return Table("rest: GET /api/organization/{id} and GET /api/version, one after the other", rows, [note])
