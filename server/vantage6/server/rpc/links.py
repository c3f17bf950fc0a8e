"""Links of the REST representation: where a thing is, and what this caller may do with it."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format, struct_pb2

from vantage6.server.domain.caller import Operation, Resource
from vantage6.server.domain.permissions import allows

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Iterable

    from google.protobuf.message import Message

    from vantage6.server.domain.caller import Call

API = "/api"

_EVERY = ((Operation.VIEW, "GET"), (Operation.EDIT, "PATCH"), (Operation.DELETE, "DELETE"))
_VERBS = {
    Resource.TASK: ((Operation.VIEW, "GET"), (Operation.DELETE, "DELETE")),
    Resource.RESULT: ((Operation.VIEW, "GET"),),
}

Value = struct_pb2.Value


def null() -> Value:
    """An empty relation and an absent one are both null (M16)."""
    return Value(null_value=struct_pb2.NULL_VALUE)


def value(content: Any) -> Value:
    """Any JSON content."""
    if content is None:
        return null()
    holder = Value()
    if isinstance(content, str):
        holder.string_value = content
    elif isinstance(content, bool):
        holder.bool_value = content
    elif isinstance(content, int | float):
        holder.number_value = content
    elif isinstance(content, dict):
        holder.struct_value.update(content)
    else:
        holder.list_value.extend(content)
    return holder


def moment(time: dt.datetime | None) -> Value:
    return null() if time is None else value(time.isoformat(timespec="microseconds"))


def link(
    resource: Resource,
    resource_id: int | None,
    call: Call,
    *,
    own: bool = False,
    organization_id: int | None = None,
    collaboration_ids: Collection[int] = (),
) -> Value:
    """`{id, link, methods}`, or null for None. The named facts are of the thing that the link leads to."""
    if resource_id is None:
        return null()
    methods = [
        verb
        for operation, verb in _VERBS.get(resource, _EVERY)
        if allows(
            call.caller, resource, operation,
            own=own, organization_id=organization_id, collaboration_ids=collaboration_ids,
        )
    ]  # fmt: skip
    return value({"id": resource_id, "link": f"{API}/{resource}/{resource_id}", "methods": methods})


def collection(path: str, methods: list[str]) -> Value:
    """Link to a list, which has no id."""
    return value({"link": f"{API}/{path}", "methods": methods})


def links(values: Iterable[Value]) -> Value:
    """A list of links, without those that lead to what the caller may not see; null when none is left."""
    seen = [item for item in values if _may_get(item)]
    if not seen:
        return null()
    return Value(list_value=struct_pb2.ListValue(values=seen))


def _may_get(item: Value) -> bool:
    methods = item.struct_value.fields["methods"].list_value.values
    return any(method.string_value == "GET" for method in methods)


def embedded(message: Message) -> Value:
    """A whole resource inside a field of another one, as REST spells it."""
    return value(json_format.MessageToDict(message, preserving_proto_field_name=True))


def encoded(data: bytes | None) -> Value:
    return null() if data is None else value(base64.b64encode(data).decode())
