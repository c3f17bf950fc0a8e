"""Time-based one-time passwords (RFC 6238 with SHA-1, six digits, steps of 30 seconds: what every app supports)."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
from urllib.parse import quote

SECONDS = 30
DIGITS = 6
# Clocks of telephones are off by a little, and people type slowly.
TOLERANCE = 1


def new_totp_secret() -> bytes:
    return secrets.token_bytes(20)


def code_at(secret: bytes, step: int, digits: int = DIGITS) -> str:
    digest = hmac.new(secret, struct.pack(">Q", step), hashlib.sha1).digest()
    offset = digest[-1] & 0x0F
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFF_FFFF
    return f"{number % 10**digits:0{digits}d}"


def matching_step(secret: bytes, code: str, seconds: float) -> int | None:
    """The time step whose code this is, near the moment `seconds` of the Unix clock; None for a wrong code."""
    current = int(seconds) // SECONDS
    found = None
    for step in range(max(0, current - TOLERANCE), current + TOLERANCE + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode()):
            found = step
    return found


def base32(secret: bytes) -> str:
    return base64.b32encode(secret).decode().rstrip("=")


def provisioning_uri(secret: bytes, issuer: str, account: str) -> str:
    """What a QR code holds."""
    label = f"{quote(issuer, safe='')}:{quote(account, safe='')}"
    numbers = f"digits={DIGITS}&period={SECONDS}"
    return f"otpauth://totp/{label}?secret={base32(secret)}&issuer={quote(issuer, safe='')}&{numbers}"
