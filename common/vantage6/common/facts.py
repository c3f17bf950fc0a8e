"""What a task is, vouched for by who created it: its key is a commitment to the facts that the server passes on.

Envelopes are bound to the task's key and signed by their sender. So a server that tells a node another number of
participants, another image or other databases than the creator named would need another key, and with that the input
does not open. Keys of other forms are fine too; what the server says of such a task is then the server's word only.

The key is `f1.NONCE.DIGEST`, both in base64url: NONCE 22 characters, DIGEST the first 24 bytes of SHA-256 over
`"vantage6 task facts v1\\0"` and the JSON text `["NONCE",participants,"image",["label",…]]` (no blanks, all but ASCII
escaped).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from dataclasses import dataclass
from typing import Final

_DOMAIN: Final = b"vantage6 task facts v1\0"
_KEY: Final = re.compile(r"f1\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{32})")


@dataclass(frozen=True)
class TaskFacts:
    """`participants`: how many organizations the task is for. `databases`: labels, in the task's order."""

    participants: int
    image: str
    databases: tuple[str, ...] = ()

    def new_key(self) -> str:
        """A fresh key for a task with these facts."""
        nonce = secrets.token_urlsafe(16)
        return f"f1.{nonce}.{self._digest(nonce)}"

    def agree(self, key: str) -> bool | None:
        """Whether the key was made for these facts; None if it says nothing of any."""
        parts = _KEY.fullmatch(key)
        return None if parts is None else secrets.compare_digest(self._digest(parts[1]), parts[2])

    def _digest(self, nonce: str) -> str:
        text = json.dumps([nonce, self.participants, self.image, list(self.databases)], separators=(",", ":"))
        return base64.urlsafe_b64encode(hashlib.sha256(_DOMAIN + text.encode()).digest()[:24]).decode()
