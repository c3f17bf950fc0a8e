"""One class per failure, with its machine-readable reason and its gRPC status.

The same table is read in both directions: the server raises `NotFound`, the interceptor turns it into a status with
`google.rpc.ErrorInfo{reason, domain, metadata}`, and the client raises `NotFound` again.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    import grpc
    from google.rpc import error_details_pb2

DOMAIN = "vantage6"
DETAILS_KEY = "grpc-status-details-bin"
LONGEST = 1_500
"""Characters of a message."""

Metadata = tuple[tuple[str, str | bytes], ...]


_BY_REASON: dict[str, type[Vantage6Error]] = {}


class _Status:
    """Looked up when it is asked for: an algorithm's container has errors and no gRPC, which takes long to load."""

    def __get__(self, error: Vantage6Error | None, kind: type[Vantage6Error]) -> grpc.StatusCode:
        import grpc  # noqa: PLC0415

        return grpc.StatusCode[kind.status_name]


class Vantage6Error(Exception):
    """Root of all failures that a caller is told about; `message` names the field and the fix.

    `metadata` are facts for machines (ids, limits), never secrets: they travel to the caller.
    """

    status_name: ClassVar[str] = "INTERNAL"
    """Name of the gRPC status."""
    status = _Status()
    reason: ClassVar[str] = "INTERNAL"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "reason" not in cls.__dict__:
            cls.reason = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()
        _BY_REASON[cls.reason] = cls

    def __init__(self, message: str, **metadata: object) -> None:
        # Errors travel in HTTP/2 headers, and peers refuse long ones: then nothing at all would arrive.
        message = message if len(message) <= LONGEST else f"{message[:LONGEST]}…"
        super().__init__(message)
        self.message = message
        self.metadata = {key: str(value)[:LONGEST] for key, value in metadata.items()}


class InvalidArgument(Vantage6Error):
    """A field of the request is missing or malformed, whatever the state of the system."""

    status_name = "INVALID_ARGUMENT"


class NotSealed(InvalidArgument):
    """Plain content where an encrypted collaboration demands an envelope, or the other way round."""


class SerializationError(InvalidArgument):
    """Bytes that are in no known format, or a value that a format cannot carry."""


class Unauthenticated(Vantage6Error):
    """No token, or one that is not good (any more); or a wrong secret."""

    status_name = "UNAUTHENTICATED"


class SecondFactorRequired(Unauthenticated):
    """Name and password were right; the code is missing."""


class PermissionDenied(Vantage6Error):
    """The caller is known and may not do this."""

    status_name = "PERMISSION_DENIED"


class NotFound(Vantage6Error):
    """It does not exist, or the caller may not know of it."""

    status_name = "NOT_FOUND"


class AlreadyExists(Vantage6Error):
    """A name or key is taken."""

    status_name = "ALREADY_EXISTS"


class FailedPrecondition(Vantage6Error):
    """The request is well-formed, but the system is in another state than it needs."""

    status_name = "FAILED_PRECONDITION"


class ContractVersionUnknown(FailedPrecondition):
    """The two sides speak no common version of the contract."""


class KeyMissing(FailedPrecondition):
    """An organization has no public key, so nothing can be sealed for it."""


class KeyChanged(FailedPrecondition):
    """The server shows another key for an organization than the one that was pinned."""


class KeyUnknown(FailedPrecondition):
    """The site's policy wants pinned keys, and this organization has none."""


class KeyMismatch(FailedPrecondition):
    """The local key pair is not the one that the server shows for the own organization."""


class EncryptionRequired(FailedPrecondition):
    """The server calls a collaboration unencrypted that the site knows to be encrypted."""


class LeaseLost(FailedPrecondition):
    """A report of an assignment that was given to somebody else meanwhile (old epoch)."""


class OutOfRange(Vantage6Error):
    """An offset or event id that is not (any more) there."""

    status_name = "OUT_OF_RANGE"


class ResourceExhausted(Vantage6Error):
    """A limit is reached: quota, size, number."""

    status_name = "RESOURCE_EXHAUSTED"


class Throttled(ResourceExhausted):
    """Too many attempts; `metadata["retry_after"]` says in how many seconds the next one is heard."""


class DataLoss(Vantage6Error):
    """Bytes arrived damaged."""

    status_name = "DATA_LOSS"


class EnvelopeBroken(DataLoss):
    """An envelope does not open: damaged, moved from elsewhere, for another recipient, or not by its sender."""


class Unavailable(Vantage6Error):
    """Cannot be reached now; trying again may help."""

    status_name = "UNAVAILABLE"


class DeadlineExceeded(Vantage6Error):
    """The call took longer than the caller would wait."""

    status_name = "DEADLINE_EXCEEDED"


class Cancelled(Vantage6Error):
    """The call was ended by one of its sides."""

    status_name = "CANCELLED"


class Unimplemented(Vantage6Error):
    """The contract has it, this version does not."""

    status_name = "UNIMPLEMENTED"


class Internal(Vantage6Error):
    """A defect of the server; its log knows more."""


_BY_STATUS: dict[str, type[Vantage6Error]] = {
    cls.status_name: cls
    for cls in (
        InvalidArgument, Unauthenticated, PermissionDenied, NotFound, AlreadyExists, FailedPrecondition, OutOfRange,
        ResourceExhausted, DataLoss, Unavailable, DeadlineExceeded, Cancelled, Unimplemented, Internal,
    )
}  # fmt: skip


def to_metadata(error: Vantage6Error) -> Metadata:
    """Trailing metadata that carry the error's reason and facts (`google.rpc.Status` with `ErrorInfo`)."""
    from google.protobuf import any_pb2  # noqa: PLC0415
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata))
    code, _ = error.status.value
    status = status_pb2.Status(code=code, message=error.message, details=[detail])
    return ((DETAILS_KEY, status.SerializeToString()),)


def from_rpc_error(error: grpc.RpcError) -> Vantage6Error:
    """Turns what a stub raised into the class that the other side raised."""
    import grpc  # noqa: PLC0415

    status: grpc.StatusCode = error.code() or grpc.StatusCode.INTERNAL
    message: str = error.details() or status.name
    info = _error_info(error.trailing_metadata() or ())
    if info is not None:
        cls = _BY_REASON.get(info.reason) or _BY_STATUS.get(status.name, Internal)
        return cls(message, **dict(info.metadata))
    if status is grpc.StatusCode.INTERNAL and "RST_STREAM" in message:
        # A gateway resets the streams of a server that died; gRPC calls it INTERNAL, but it is the line that broke.
        return Unavailable(message)
    if status is grpc.StatusCode.INTERNAL and message == "Internal error from Core":
        # Said here, not there: a message could not be sent, since the call had ended before its status was known.
        return Unavailable(message)
    return _BY_STATUS.get(status.name, Internal)(message)


def from_rest(status: int, body: bytes) -> Vantage6Error:
    """Turns an error of the REST API, or of a gateway before it, into the class that the server raised."""
    try:
        said = json.loads(body)
        details = [each for each in said.get("details") or () if each.get("domain") == DOMAIN]
        message = str(said.get("msg") or said.get("message") or f"HTTP status {status}")
        reason, metadata = (details[0]["reason"], details[0].get("metadata", {})) if details else ("", {})
    except (ValueError, AttributeError, KeyError, TypeError):
        message, reason, metadata = f"HTTP status {status}", "", {}
    cls = _BY_REASON.get(reason) or _BY_STATUS.get(_BY_HTTP.get(status, "INTERNAL"), Internal)
    return cls(message, **metadata)


_BY_HTTP = {
    400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS",
    429: "RESOURCE_EXHAUSTED", 501: "UNIMPLEMENTED", 502: "UNAVAILABLE", 503: "UNAVAILABLE", 504: "DEADLINE_EXCEEDED",
}  # fmt: skip


def _error_info(trailers: object) -> error_details_pb2.ErrorInfo | None:
    for key, value in trailers:  # type: ignore[attr-defined]
        if key == DETAILS_KEY:
            return _unpack(value)
    return None


def _unpack(data: bytes) -> error_details_pb2.ErrorInfo | None:
    from google.protobuf.message import DecodeError  # noqa: PLC0415
    from google.rpc import error_details_pb2, status_pb2  # noqa: PLC0415

    info = error_details_pb2.ErrorInfo()
    try:
        for detail in status_pb2.Status.FromString(data).details:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return info
    except DecodeError:
        return None  # A middlebox's details: the status code alone has to do.
    return None
