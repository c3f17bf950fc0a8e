"""The OpenAPI 3.1 description of the REST interface, made from the contract's descriptors and their comments."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from google.api import annotations_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorSet

from vantage6.server import CONTRACT_VERSION
from vantage6.server.interceptors.identity import TOKEN_IGNORED, TOKEN_OPTIONAL
from vantage6.server.openapi_schemas import PACKAGE, Json, Message, Schemas, field_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from google.protobuf.descriptor_pb2 import FileDescriptorProto, MethodDescriptorProto

CODES_OF_1X = {"CreateTask": "200", "CreateCollaboration": "200"}
"""Programs for 1.x want these; everything else that creates answers 201."""

_CONTENT = {
    "StreamEvents": ("text/event-stream", "Server-sent events, without end."),
    "ReadPayload": ("application/octet-stream", "The bytes."),
    "GetOpenApi": ("application/json", "This document."),
    "GetDocs": ("text/html", "A page."),
}
_SERVICE, _METHOD = 6, 2  # Numbers of the fields in FileDescriptorProto and ServiceDescriptorProto.


@dataclass(frozen=True)
class Operation:
    """One path and verb of one RPC."""

    service: str
    method: MethodDescriptorProto
    comment: str
    verb: str
    path: str
    body: str
    again: int

    @property
    def id(self) -> str:
        return f"{self.method.name}{self.again or ''}"


@functools.cache
def document() -> Json:
    descriptors = files("vantage6.api.v1").joinpath("descriptors.binpb").read_bytes()
    found = FileDescriptorSet.FromString(descriptors)
    own = [file for file in found.file if file.package == PACKAGE]
    schemas = Schemas(own)
    paths: dict[str, Json] = {}
    tags = []
    for file in own:
        for operation in _operations(file):
            paths.setdefault(operation.path, {})[operation.verb] = _described(operation, schemas)
        tags += [_tag(file, index) for index, service in enumerate(file.service) if _has_paths(service.method)]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "vantage6",
            "version": CONTRACT_VERSION,
            "description": "Federated analysis. Begin at /api and follow the links. Log in at /api/token/user.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": sorted(tags, key=lambda tag: str(tag["name"])),
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.used().items())) | {"Error": _ERROR},
            "responses": {"Error": {"description": "A failure.", "content": _as_json({"$ref": _ref("Error")})}},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }


@functools.cache
def document_bytes() -> bytes:
    return json.dumps(document(), separators=(",", ":"), ensure_ascii=False).encode()


_ERROR: Json = {
    "type": "object",
    "description": "What every failure looks like; `details[].reason` is for machines, `msg` for people (and 1.x).",
    "required": ["msg"],
    "properties": {
        "msg": {"type": "string"},
        "message": {"type": "string"},
        "code": {"type": "integer", "description": "The status code of gRPC."},
        "details": {"type": "array", "items": {"type": "object"}},
    },
}


def _has_paths(methods: Any) -> bool:
    return any(_rule(method).WhichOneof("pattern") for method in methods)


def _rule(method: MethodDescriptorProto) -> Any:
    return method.options.Extensions[cast("Any", annotations_pb2.http)]


def _tag(file: FileDescriptorProto, index: int) -> Json:
    return {
        "name": file.service[index].name.removesuffix("Service"),
        "description": _comment(file, (_SERVICE, index)),
    }


def _operations(file: FileDescriptorProto) -> Iterator[Operation]:
    for number, service in enumerate(file.service):
        for index, method in enumerate(service.method):
            rule = _rule(method)
            comment = _comment(file, (_SERVICE, number, _METHOD, index))
            for again, one in enumerate([rule, *rule.additional_bindings]):
                verb = one.WhichOneof("pattern")
                if verb:
                    yield Operation(service.name, method, comment, verb, getattr(one, verb), one.body, again)


@functools.cache
def _comments(name: str) -> dict[tuple[int, ...], str]:
    descriptors = files("vantage6.api.v1").joinpath("descriptors.binpb").read_bytes()
    file = next(file for file in FileDescriptorSet.FromString(descriptors).file if file.name == name)
    return {
        tuple(location.path): location.leading_comments for location in file.source_code_info.location
        if location.leading_comments
    }  # fmt: skip


def _comment(file: FileDescriptorProto, path: tuple[int, ...]) -> str:
    lines = (line.removeprefix(" ") for line in _comments(file.name).get(path, "").strip("\n").split("\n"))
    return "\n".join(lines).strip()


def _described(operation: Operation, schemas: Schemas) -> Json:
    method = operation.method
    request = schemas.message(method.input_type)
    in_path = re.findall(r"{(\w+)}", operation.path)
    summary = " ".join(operation.comment.split("\n\n", maxsplit=1)[0].split())
    described: Json = {
        "operationId": operation.id,
        "tags": [operation.service.removesuffix("Service")],
        "summary": summary,
        "description": operation.comment,
        "parameters": [_parameter(request, name, "path") for name in in_path],
        "responses": _responses(operation, schemas),
        **_security(operation),
    }
    if operation.body == "*":
        described["requestBody"] = _json_body(request, in_path)
    elif operation.body:
        any_bytes: Json = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {"required": True, "content": any_bytes}
    if operation.body != "*":
        skipped = {*in_path, operation.body}
        described["parameters"] += [
            _parameter(request, name, "query")
            for name, field in request.fields.items() if name not in skipped and field.fits_a_query
        ]  # fmt: skip
    return described


def _json_body(request: Message, in_path: list[str]) -> Json:
    schema = request.schema(without=in_path)
    return {"required": True, "content": _as_json(schema)}


def _parameter(request: Message, name: str, place: str) -> Json:
    field = request.fields[name]
    schema = field_schema(field)
    text = schema.pop("description", "")
    parameter: Json = {"name": name, "in": place, "required": place == "path", "schema": schema}
    return parameter | ({"description": text} if text else {})


def _security(operation: Operation) -> Json:
    full = f"/{PACKAGE}.{operation.service}/{operation.method.name}"
    if full in TOKEN_IGNORED:
        return {"security": []}
    return {"security": [{"token": []}, {}]} if full in TOKEN_OPTIONAL else {"security": [{"token": []}]}


def _responses(operation: Operation, schemas: Schemas) -> Json:
    return {_code(operation): _success(operation, schemas), "default": {"$ref": "#/components/responses/Error"}}


def _code(operation: Operation) -> str:
    """As the gateway decides it (gateway/contract.py), and the servicers for programs of 1.x."""
    method = operation.method
    if method.name in CODES_OF_1X:
        return CODES_OF_1X[method.name]
    tokens = method.output_type.endswith("Response")
    return "201" if operation.verb == "post" and method.name.startswith("Create") and not tokens else "200"


def _success(operation: Operation, schemas: Schemas) -> Json:
    method = operation.method
    if method.name in _CONTENT:
        kind, text = _CONTENT[method.name]
        return {"description": text, "content": {kind: {"schema": {} if kind == "application/json" else _TEXT}}}
    schema: Json = {"$ref": _ref(schemas.use(method.output_type))}
    if not method.server_streaming:
        return {"description": "Done.", "content": _as_json(schema)}
    headers = {
        "X-Total-Count": {"description": "With pages: length of the whole list.", "schema": {"type": "integer"}},
        "Link": {"description": "With pages: first, prev, next, last (RFC 8288).", "schema": {"type": "string"}},
    }
    return {
        "description": "The list.",
        "headers": headers,
        "content": _as_json({"type": "array", "items": schema}),
    }


_TEXT: Json = {"type": "string"}


def _as_json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _ref(name: str) -> str:
    return f"#/components/schemas/{name}"
