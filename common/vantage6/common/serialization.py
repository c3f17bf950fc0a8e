"""Values to bytes and back, with the format's name in front: `json.{"a":1}`, `arrow.…`, `bytes.…`.

The rule of 1.x: the first dot is among the first 10 bytes, and what stands before it is a name, in any case. Formats
are data, never programs: there is no pickle here, so opening somebody else's bytes runs nothing of theirs.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, NamedTuple

from vantage6.common import arrow_format, json_format
from vantage6.common.errors import SerializationError

Write = Callable[[object], bytes]
Read = Callable[[bytes], object]

_PREFIX_END: Final = 10
_NAME: Final = re.compile(r"[a-z0-9_-]{1,9}")


# No data class: that would bring `inspect`, which takes longer to load than the rest of an algorithm's tools.
class _Format(NamedTuple):
    write: Write
    read: Read


_formats: dict[str, _Format] = {}


def register(name: str, write: Write, read: Read) -> None:
    """Adds a format. `write` and `read` raise `SerializationError`; `read` gets bytes of strangers."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a format: 1 to 9 of a-z, 0-9, _ and -")
    if name in _formats or name == "pickle":
        raise ValueError(f"format {name!r} is taken")
    _formats[name] = _Format(write, read)


def formats() -> tuple[str, ...]:
    """The names that `serialize` takes."""
    return tuple(_formats)


def serialize(value: object, format: str = "json") -> bytes:  # noqa: A002 - the name that callers know from 1.x
    """The value in that format, prefix included; `SerializationError` says what of it the format cannot carry."""
    name = format.lower()
    return name.encode() + b"." + _format(name).write(value)


def deserialize(data: bytes) -> object:
    """The value, by the format that the prefix names."""
    head, dot, _ = bytes(data[:_PREFIX_END]).partition(b".")
    if not dot or not head.isascii():
        pickled = (
            " It looks like a pickle, which is never read, since it could run anything." if head[:1] == b"\x80" else ""
        )
        raise SerializationError(f"The bytes do not begin with a format, such as 'json.'.{pickled}")
    return _format(head.decode().lower()).read(bytes(data[len(head) + 1 :]))


def _format(name: str) -> _Format:
    if name == "pickle":
        raise SerializationError("Format 'pickle' is neither written nor read, since it could run anything: use json.")
    try:
        return _formats[name]
    except KeyError:
        raise SerializationError(f"Format {name!r} is unknown; there are {', '.join(_formats)}.") from None


def _write_bytes(value: object) -> bytes:
    if not isinstance(value, bytes | bytearray | memoryview):
        raise SerializationError(f"Format 'bytes' carries bytes, not {type(value).__name__}: use json or arrow.")
    return bytes(value)


register("json", json_format.write, json_format.read)
register("arrow", arrow_format.write, arrow_format.read)
register("bytes", _write_bytes, bytes)
