"""One way to call any RPC through either door, so that an attack is written once and tried through both.

Fields and answers are as JSON spells them: what REST takes and gives, a gRPC message is made from and turned into.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import httpx
from google.api import annotations_pb2
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import MethodDescriptor

from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.errors import from_rpc_error

from .conftest import PASSWORD, Site

DOORS = ("grpc", "rest")
CODES = {code.value[0]: code.name for code in grpc.StatusCode}


@dataclass(frozen=True)
class Answer:
    """`status` is the name of a gRPC status through both doors; `body` is a list for a stream."""

    status: str
    body: Any = None
    message: str = ""
    reason: str = ""
    facts: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        assert self.status == "OK", self
        return self.body[name]

    @property
    def ids(self) -> list[int]:
        assert self.status == "OK", self
        return [item["id"] for item in self.body]

    @property
    def words(self) -> tuple[str, str]:
        return self.status, self.message


def method_of(rpc: str) -> MethodDescriptor:
    """ "Task.GetTask" → its descriptor."""
    noun, _, name = rpc.partition(".")
    service = descriptor_pool.Default().FindServiceByName(f"vantage6.api.v1.{noun}Service")
    return service.methods_by_name[name]


def rule_of(method: MethodDescriptor) -> tuple[str, str, str]:
    """HTTP verb, path and body."""
    rule: Any = method.GetOptions().Extensions[cast("Any", annotations_pb2.http)]
    verb = rule.WhichOneof("pattern")
    return verb.upper(), getattr(rule, verb), rule.body


@dataclass
class Door:
    """Somebody at an address of their own, so that nobody's failed attempts count for others."""

    site: Site
    kind: str
    channel: grpc.aio.Channel
    web: httpx.AsyncClient
    address: str = field(default_factory=lambda: ".".join(["10", *(str(b) for b in secrets.token_bytes(3))]))

    async def call(self, rpc: str, who: str = "", **fields: Any) -> Answer:
        """`who` is a name in the site's tokens, nobody if empty."""
        metadata = {"x-forwarded-for": self.address}
        if who:
            metadata["authorization"] = f"Bearer {self.site.tokens[who]}"
        return await (self._grpc if self.kind == "grpc" else self._rest)(method_of(rpc), metadata, fields)

    async def _grpc(self, method: MethodDescriptor, metadata: dict[str, str], fields: dict[str, Any]) -> Answer:
        request = json_format.ParseDict(fields, message_factory.GetMessageClass(method.input_type)())
        reply = message_factory.GetMessageClass(method.output_type)
        path = f"/{method.containing_service.full_name}/{method.name}"
        make: Any = self.channel.unary_stream if method.server_streaming else self.channel.unary_unary
        call = make(path, request_serializer=type(request).SerializeToString, response_deserializer=reply.FromString)
        try:
            sent = call(request, metadata=tuple(metadata.items()))
            if method.server_streaming:
                return Answer("OK", [as_json(message) async for message in sent])
            return Answer("OK", as_json(await sent))
        except grpc.aio.AioRpcError as error:
            failure = from_rpc_error(error)
            return Answer(error.code().name, None, failure.message, failure.reason, failure.metadata)

    async def _rest(self, method: MethodDescriptor, headers: dict[str, str], fields: dict[str, Any]) -> Answer:
        verb, path, body = rule_of(method)
        left = dict(fields)
        for name in re.findall(r"{(\w+)}", path):
            path = path.replace(f"{{{name}}}", str(left.pop(name, 0)))
        sent: dict[str, Any] = {"json": left} if body else {"params": left}
        answer = await self.web.request(verb, path, headers=headers, **sent)
        content = answer.json()
        if answer.status_code < 400:
            return Answer("OK", content)
        details = content["details"][0]
        assert content["msg"] == content["message"]
        return Answer(
            CODES[content["code"]], None, content["message"], details["reason"], dict(details.get("metadata", {}))
        )

    async def person(self, roles: str, organization: int | None = None) -> str:
        """A new user with these roles who has logged in; the name stands in the site's tokens."""
        home = organization or self.site.organizations[0]
        name = f"user-{secrets.token_hex(5)}"
        made = await self.call(
            "User.CreateUser", "root", username=name, email=f"{name}@x.example", password=PASSWORD, roles=roles,
            organization_id=home,
        )  # fmt: skip
        assert made.status == "OK", made
        self.site.ids[name] = made["id"]
        self.site.tokens[name] = (await self.log_in(name, PASSWORD))["access_token"]
        return name

    async def log_in(self, username: str, password: str, **more: str) -> Answer:
        return await self.call("Auth.CreateUserToken", username=username, password=password, **more)

    async def node(self, number: int = 0) -> str:
        """The node of one of the site's organizations, logged in."""
        answer = await self.call("Auth.CreateNodeToken", api_key=self.site.api_keys[number])
        self.site.tokens[f"node-{number}"] = answer["access_token"]
        return f"node-{number}"

    async def organization(self) -> int:
        return int((await self.call("Organization.CreateOrganization", "root", name=fresh("org")))["id"])

    async def collaboration(self, *organizations: int, encrypted: bool = False) -> int:
        made = await self.call(
            "Collaboration.CreateCollaboration", "root",
            name=fresh("study"), organization_ids=list(organizations), encrypted=encrypted,
        )  # fmt: skip
        return int(made["id"])

    async def task(self, who: str, collaboration: int, *organizations: int, **more: Any) -> Answer:
        targets = [{"id": number, "input": "anNvbi57fQ=="} for number in organizations]
        fields = {"collaboration_id": collaboration, "image": "image", "organizations": targets} | more
        return await self.call("Task.CreateTask", who, **fields)


def as_json(message: Any) -> Any:
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def fresh(kind: str) -> str:
    return f"{kind}-{secrets.token_hex(5)}"


@asynccontextmanager
async def opened(site: Site, kind: str) -> AsyncIterator[Door]:
    async with open_channel(Endpoint(site.url, site.ca)) as channel, site.web() as web:
        yield Door(site, kind, channel, web)
