"""Messages of the contract as JSON Schema, in the spelling of the gateway's transcoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

Json = dict[str, Any]

PACKAGE = "vantage6.api.v1"

_BASE64 = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_MESSAGES, _FIELDS = 4, 2  # Numbers of the fields in FileDescriptorProto and DescriptorProto.

_SCALARS: dict[int, Json] = {
    Field.TYPE_INT32: {"type": "integer", "format": "int32", "minimum": -(2**31), "maximum": 2**31 - 1},
    Field.TYPE_UINT32: {"type": "integer", "format": "int32", "minimum": 0, "maximum": 2**32 - 1},
    # As text, because not every JSON parser holds 64 bits; numbers are understood, too.
    Field.TYPE_INT64: {"type": "string", "format": "int64", "pattern": "^-?[0-9]{1,18}$"},
    Field.TYPE_UINT64: {"type": "string", "format": "uint64", "pattern": "^[0-9]{1,19}$"},
    Field.TYPE_DOUBLE: {"type": "number"},
    Field.TYPE_FLOAT: {"type": "number"},
    Field.TYPE_BOOL: {"type": "boolean"},
    Field.TYPE_STRING: {"type": "string"},
    Field.TYPE_BYTES: {"type": "string", "contentEncoding": "base64", "pattern": _BASE64},
}
_WELL_KNOWN: dict[str, Json] = {
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Duration": {"type": "string"},
    ".google.protobuf.Struct": {"type": "object"},
    ".google.protobuf.Value": {},
    ".google.api.HttpBody": {"type": "string", "format": "binary"},
}


@dataclass(frozen=True)
class DescribedField:
    field: Field
    comment: str
    enums: dict[str, list[str]]

    @property
    def fits_a_query(self) -> bool:
        return self.field.type != Field.TYPE_MESSAGE or self.field.type_name == ".google.protobuf.Timestamp"


def field_schema(described: DescribedField) -> Json:
    field = described.field
    if field.type == Field.TYPE_MESSAGE:
        known = _WELL_KNOWN.get(field.type_name)
        schema = dict(known) if known is not None else {"$ref": f"#/components/schemas/{_short(field.type_name)}"}
    elif field.type == Field.TYPE_ENUM:
        schema = {"type": "string", "enum": described.enums[field.type_name]}
    else:
        schema = dict(_SCALARS[field.type])
    if field.label == Field.LABEL_REPEATED:
        schema = {"type": "array", "items": schema}
    if described.comment:
        schema["description"] = described.comment
    return schema


@dataclass(frozen=True)
class Message:
    comment: str
    fields: dict[str, DescribedField]

    def schema(self, without: Collection[str] = ()) -> Json:
        properties = {name: field_schema(field) for name, field in self.fields.items() if name not in without}
        schema: Json = {"type": "object", "properties": properties}
        required = [name for name in properties if self.fields[name].comment.startswith("Required")]
        # "Required with …" and "Required in …" depend on something else.
        required = [name for name in required if self.fields[name].comment[8:9] in {".", ",", ":"}]
        if required:
            schema["required"] = required
        return schema | ({"description": self.comment} if self.comment else {})


class Schemas:
    """All messages; `used` are those that were asked for, and those that they hold."""

    def __init__(self, own: Sequence[FileDescriptorProto]) -> None:
        self._messages: dict[str, Message] = {}
        self._used: set[str] = set()
        enums: dict[str, list[str]] = {}
        for file in own:
            for enum in file.enum_type:
                enums[f".{PACKAGE}.{enum.name}"] = _names(enum)
        for file in own:
            comments = {tuple(part.path): part.leading_comments for part in file.source_code_info.location}
            for index, message in enumerate(file.message_type):
                self._messages[f".{PACKAGE}.{message.name}"] = _message(message, index, comments, enums)

    def message(self, name: str) -> Message:
        message = self._messages[name]
        self._use_fields(message)
        return message

    def use(self, name: str) -> str:
        if name not in self._used:
            self._used.add(name)
            self._use_fields(self._messages[name])
        return _short(name)

    def used(self) -> dict[str, Json]:
        return {_short(name): self._messages[name].schema() for name in self._used}

    def _use_fields(self, message: Message) -> None:
        for described in message.fields.values():
            if described.field.type_name in self._messages:
                self.use(described.field.type_name)


def _message(
    message: DescriptorProto, index: int, comments: dict[tuple[int, ...], str], enums: dict[str, list[str]]
) -> Message:
    fields = {
        field.name: DescribedField(field, _text(comments.get((_MESSAGES, index, _FIELDS, number), "")), enums)
        for number, field in enumerate(message.field)
    }
    return Message(_text(comments.get((_MESSAGES, index), "")), fields)


def _names(enum: EnumDescriptorProto) -> list[str]:
    return [value.name for value in enum.value]


def _text(comment: str) -> str:
    return " ".join(comment.split())


def _short(name: str) -> str:
    return name.rpartition(".")[2]
