"""The objects of 1.2.3 as they were recorded: field to the JSON types that it may have. More fields may be there.

`link` is {id, link, methods}; `links` a list of those or null; `list` is a link without id to a list, where 1.x had all
of them (docs/rest.md says which and why).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

ORGANIZATION = {
    "id": "int", "name": "str", "domain": "str null", "address1": "str null", "address2": "str null",
    "zipcode": "str null", "country": "str null", "public_key": "base64", "collaborations": "links", "nodes": "links",
    "users": "links", "results": "list null", "created_tasks": "list null",
}  # fmt: skip
COLLABORATION = {
    "id": "int",
    "name": "str",
    "encrypted": "bool",
    "organizations": "links",
    "nodes": "links",
    "tasks": "list null",
}
NODE = {
    "id": "int", "name": "str", "type": "=node", "status": "null =online =offline", "ip": "str null",
    "last_seen": "time null", "organization": "link", "collaboration": "link",
}  # fmt: skip
USER = {
    "id": "int", "username": "str", "firstname": "str", "lastname": "str", "email": "str", "roles": "str",
    "type": "=user", "status": "null str", "ip": "str null", "last_seen": "time null", "organization": "link null",
}  # fmt: skip
TASK = {
    "id": "int", "name": "str", "description": "str", "image": "str", "run_id": "int", "database": "str null",
    "complete": "bool", "collaboration": "link", "initiator": "int null", "parent": "link null", "children": "links",
    "results": "links",
}  # fmt: skip
RESULT = {
    "id": "int", "input": "base64", "result": "base64 null", "log": "str null", "assigned_at": "time null",
    "started_at": "time null", "finished_at": "time null", "organization": "link", "task": "link null",
}  # fmt: skip
TASK_RESULT = RESULT | {"organization": "int", "task": "int"}
EMBEDDED_RESULT = {name: kind for name, kind in TASK_RESULT.items() if name != "task"}
EMBEDDED_TASK = {name: kind for name, kind in TASK.items() if name != "results"}
TOKEN = {"access_token": "str", "refresh_token": "str", "refresh_url": "=/api/token/refresh"}
NODE_SIMPLE = {"id": "int", "name": "str", "status": "null =online =offline", "last_seen": "time null",
               "organization": "link"}  # fmt: skip


def is_link(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"id", "link", "methods"}
        and isinstance(value["id"], int)
        and value["link"].startswith("/api/")
        and value["link"].endswith(f"/{value['id']}")
        and set(value["methods"]) <= {"GET", "PATCH", "DELETE", "POST"}
    )


def is_text(value: Any, pattern: str) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


KINDS: dict[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "int": lambda value: type(value) is int,
    "bool": lambda value: type(value) is bool,
    "str": lambda value: isinstance(value, str),
    "base64": lambda value: is_text(value, r"[A-Za-z0-9+/]*={0,2}"),
    "time": lambda value: is_text(value, r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00"),
    "link": is_link,
    # An empty relation is null, never an empty list (M16).
    "links": lambda value: value is None or (isinstance(value, list) and bool(value) and all(map(is_link, value))),
    "list": lambda value: isinstance(value, dict) and value.keys() == {"link", "methods"},
}


def is_of(value: Any, kind: str) -> bool:
    return value == kind[1:] if kind.startswith("=") else KINDS[kind](value)


def faults(thing: dict[str, Any], shape: dict[str, str]) -> list[str]:
    """What is not as recorded."""
    return [
        f"{name}: {thing.get(name, 'absent')!r} is not {kinds}"
        for name, kinds in shape.items()
        if name not in thing or not any(is_of(thing[name], kind) for kind in kinds.split())
    ]
