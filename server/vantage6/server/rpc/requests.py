"""What servicers read from requests in the same way."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import TYPE_CHECKING, Any

from vantage6.server.domain.checks import Repeatable, check_moment
from vantage6.server.store.pages import Span

if TYPE_CHECKING:
    from collections.abc import Iterable


def present(request: Any, names: Iterable[str]) -> dict[str, str]:
    """The fields of an update that were given: what is absent stays as it is, what is empty becomes empty."""
    return {name: getattr(request, name) for name in names if request.HasField(name)}


def given(request: Any, name: str) -> Any:
    """The field's value, or None where it is absent."""
    return getattr(request, name) if request.HasField(name) else None


def span(request: Any, prefix: str = "") -> Span:
    """The filters `<prefix>after` and `<prefix>before`."""
    return Span(_moment(request, f"{prefix}after"), _moment(request, f"{prefix}before"))


def _moment(request: Any, name: str) -> dt.datetime | None:
    return check_moment(name, getattr(request, name)) if request.HasField(name) else None


def repeatable(request: Any, *, secret: str = "") -> Repeatable:
    """The request's idempotency key and digest; without a password, whose fast hash the digest would be."""
    copy = type(request)()
    copy.CopyFrom(request)
    copy.ClearField("idempotency_key")
    if secret:
        copy.ClearField(secret)
    digest = hashlib.sha256(copy.SerializeToString(deterministic=True)).digest()
    return Repeatable(request.idempotency_key, digest)
