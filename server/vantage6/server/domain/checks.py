"""What may stand in a field, whatever the rights of the caller; and creating calls that are repeated."""

from __future__ import annotations

import datetime as dt
import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vantage6.common.errors import InvalidArgument
from vantage6.server.domain.secrets import now

if TYPE_CHECKING:
    from google.protobuf.timestamp_pb2 import Timestamp

    from vantage6.server.domain.caller import UserCaller
    from vantage6.server.store.sql import Store

# Good enough to refuse what is no address and what could forge a mail header; whether it works shows in sending (M09).
_EMAIL = re.compile(r"[^\s@\"<>(),:;\\\[\]]{1,64}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")
LARGEST_KEY = 16 * 1024
_INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Joiners hold emoji and several scripts together.
_JOINERS = "\u200c\u200d"


def check_text(field: str, text: str, longest: int, *, required: bool = False, lines: bool = False) -> str:
    """Visible text, one line unless `lines`: no control characters, which forge lines in logs and terminals (X15)."""
    if required and not text.strip():
        raise InvalidArgument(f"{field}: is required.", field=field)
    if len(text) > longest:
        raise InvalidArgument(f"{field}: at most {longest} characters.", field=field)
    allowed = _JOINERS + ("\n\t" if lines else "")
    if any(unicodedata.category(char) in _INVISIBLE and char not in allowed for char in text):
        raise InvalidArgument(f"{field}: must not hold control characters.", field=field)
    return text


def check_moment(field: str, moment: Timestamp) -> dt.datetime:
    try:
        return moment.ToDatetime(tzinfo=dt.UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"{field}: is no moment between the years 1 and 9999.", field=field) from error


def check_username(username: str) -> str:
    check_text("username", username, 128, required=True)
    if username.isdigit():
        # It would look like an id (CVE-2023-28635).
        raise InvalidArgument("username: must not be made of digits alone.", field="username")
    if username != username.strip() or "," in username:
        raise InvalidArgument("username: must not hold commas or begin or end with a space.", field="username")
    return username


def check_email(email: str) -> str:
    """Lower case, as addresses are compared."""
    if not email:
        raise InvalidArgument("email: is required.", field="email")
    if len(email) > 254 or not email.isprintable() or _EMAIL.fullmatch(email) is None:
        raise InvalidArgument("email: this is no email address.", field="email")
    return email.lower()


def check_public_key(pem: bytes) -> bytes:
    """PEM text or nothing; whose key it is, is checked by those who pin it, never by the server."""
    if len(pem) > LARGEST_KEY or (pem and not pem.lstrip().startswith(b"-----BEGIN PUBLIC KEY-----")):
        raise InvalidArgument("public_key: must be a public key as PEM text.", field="public_key")
    return pem


@dataclass(frozen=True)
class Repeatable:
    """Identifies a creating call: the client's key, and the digest of the request without its secrets."""

    key: str = ""
    digest: bytes = b""

    async def made_before(self, store: Store, caller: UserCaller) -> int | None:
        if not self.key:
            return None
        if len(self.key) > 64:
            raise InvalidArgument("idempotency_key: at most 64 characters.", field="idempotency_key")
        return await store.accounts.made_before(caller.key, self.key, self.digest)

    async def remember(self, store: Store, caller: UserCaller, resource_id: int) -> None:
        if self.key:
            await store.accounts.remember(caller.key, self.key, self.digest, resource_id, now())


ONCE = Repeatable()
