"""A small part of JSON Schema: type, properties, required, items, maxItems, maxLength, minimum, maximum, enum.

Unlike there, what is not described is not allowed (`additionalProperties` is false unless it is a schema), and words
that are not known here are an error of the site, not a rule that nobody keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_WORDS = {
    "type", "properties", "required", "additionalProperties", "items", "maxItems", "maxLength", "minimum", "maximum",
    "enum",
}  # fmt: skip
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (Mapping,),
    "array": (list, tuple),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}


def check_schema(schema: Any, deepest: int = 64) -> None:
    """Raises ValueError for what is no schema here: found when the site starts, not when a result is to leave."""
    if not isinstance(schema, Mapping) or deepest == 0:
        raise ValueError("schema: it is a mapping, nested less than 64 deep")
    if unknown := {str(word) for word in schema} - _WORDS:
        raise ValueError(f"schema: {', '.join(sorted(unknown))} is not understood")
    types = schema.get("type", [])
    if not {types} <= _TYPES.keys() if isinstance(types, str) else not _are_texts(types, _TYPES):
        raise ValueError(f"schema: type is one of {', '.join(_TYPES)}, or a list of them")
    if not isinstance(schema.get("enum", []), list) or not _are_texts(schema.get("required", [])):
        raise ValueError("schema: enum is a list, and required a list of names")
    if not all(_is(schema.get(word, 0), "number") for word in ("maxItems", "maxLength", "minimum", "maximum")):
        raise ValueError("schema: maxItems, maxLength, minimum and maximum are numbers")
    members = schema.get("properties", {})
    if not isinstance(members, Mapping) or not _are_texts(list(members)):
        raise ValueError("schema: properties is a mapping of names to schemas")
    for each in (*members.values(), schema.get("additionalProperties", False)):
        if not isinstance(each, bool):
            check_schema(each, deepest - 1)
    if "items" in schema:
        check_schema(schema["items"], deepest - 1)


def _are_texts(given: Any, allowed: Mapping[str, Any] | None = None) -> bool:
    return isinstance(given, list) and all(
        isinstance(each, str) and (allowed is None or each in allowed) for each in given
    )


def mismatch(value: Any, schema: Mapping[str, Any], where: str = "the value") -> str:
    """Why the value does not fit, without any of its content; empty when it fits."""
    if unknown := set(schema) - _WORDS:
        raise ValueError(f"schema: {', '.join(sorted(unknown))} is not understood")
    types = schema.get("type", [])
    wanted = [types] if isinstance(types, str) else list(types)
    if wanted and not any(_is(value, each) for each in wanted):
        return f"{where} is no {' or '.join(wanted)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{where} is none of the values that are allowed"
    if isinstance(value, Mapping):
        return _object(value, schema, where)
    if isinstance(value, (list, tuple)):
        return _array(value, schema, where)
    return _plain(value, schema, where)


def _is(value: Any, name: str) -> bool:
    if isinstance(value, bool) and name != "boolean":
        return False
    return isinstance(value, _TYPES[name])


def _object(value: Mapping[str, Any], schema: Mapping[str, Any], where: str) -> str:
    described, others = schema.get("properties", {}), schema.get("additionalProperties", False)
    if absent := [name for name in schema.get("required", ()) if name not in value]:
        return f"{where} has no {absent[0]!r}"
    for number, (name, held) in enumerate(value.items()):
        rule = described.get(name, others)
        if rule is False:
            return f"{where} has a member (number {number + 1}) that is not described"
        inner = f"{where}.{name}" if name in described else f"a member of {where}"
        if rule is not True and (why := mismatch(held, rule, inner)):
            return why
    return ""


def _array(value: Any, schema: Mapping[str, Any], where: str) -> str:
    if "maxItems" in schema and len(value) > schema["maxItems"]:
        return f"{where} has more than {schema['maxItems']} items"
    if "items" not in schema:
        return f"{where} has items that are not described" if len(value) else ""
    return next((why for each in value if (why := mismatch(each, schema["items"], f"an item of {where}"))), "")


def _plain(value: Any, schema: Mapping[str, Any], where: str) -> str:
    if isinstance(value, str) and "maxLength" in schema and len(value) > schema["maxLength"]:
        return f"{where} is longer than {schema['maxLength']} characters"
    if isinstance(value, (int, float)) and "minimum" in schema and value < schema["minimum"]:
        return f"{where} is less than {schema['minimum']}"
    if isinstance(value, (int, float)) and "maximum" in schema and value > schema["maximum"]:
        return f"{where} is more than {schema['maximum']}"
    return ""
