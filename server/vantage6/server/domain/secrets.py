"""Passwords, API keys and tokens: made, hashed, checked. Nothing here knows of users or rows."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import hashlib
import hmac
import json
import os
import secrets
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from vantage6.common.errors import InvalidArgument, Unauthenticated
from vantage6.server.domain.common_passwords import is_common

SHORTEST_SECRET = 32
SHORTEST_PASSWORD = 8
LONGEST_PASSWORD = 256
KEPT_TOKENS = 4_096
ALGORITHM = "HS256"
_HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")


class WeakSecretError(Exception):
    """The configured secret of the tokens could be guessed."""


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def new_secret() -> str:
    """256 bits from the system's random source, for API keys and generated passwords (GHSA-m3mq-f375-5vgh)."""
    return secrets.token_urlsafe(32)


def hash_token(token: str) -> str:
    """For secrets of 256 random bits, which nobody can guess: a plain hash is enough, and can be looked up."""
    return hashlib.sha256(token.encode()).hexdigest()


def check_password_strength(password: str, *own_words: str) -> None:
    """As NIST 800-63B wants it: length, nothing that others guess first, and no rules of composition."""
    if not SHORTEST_PASSWORD <= len(password) <= LONGEST_PASSWORD:
        limits = f"between {SHORTEST_PASSWORD} and {LONGEST_PASSWORD}"
        raise InvalidArgument(f"password: must have {limits} characters.", field="password")
    own = {part.lower() for word in own_words for part in (word, word.partition("@")[0]) if part}
    if password.lower() in own or is_common(password):
        raise InvalidArgument("password: this one is too easy to guess; choose another.", field="password")


class Passwords:
    """Argon2id, off the event loop and on few threads: a flood of log-ins must not slow everybody down."""

    def __init__(self, hasher: PasswordHasher | None = None) -> None:
        self._hasher = hasher or PasswordHasher()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="argon2")
        # Checked for users that do not exist, so that the answer takes as long (CVE-2024-21671).
        self._nobody = self._hasher.hash(new_secret())

    async def hash(self, password: str) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._hasher.hash, password)

    async def check(self, password: str, password_hash: str | None) -> bool:
        """Does the same work whether there is a hash or not."""
        known = password_hash or self._nobody
        matches = await asyncio.get_running_loop().run_in_executor(self._threads, self._matches, password, known)
        return matches and password_hash is not None

    def _matches(self, password: str, password_hash: str) -> bool:
        try:
            return self._hasher.verify(password_hash, password)
        except (VerificationError, InvalidHashError):
            return False

    def close(self) -> None:
        self._threads.shutdown(wait=False)


def load_secret(path: Path) -> str:
    """The key that signs the tokens; made at the first start, readable by the server's user alone."""
    try:
        secret = path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        secret = secrets.token_hex(64)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(secret + "\n")
        return secret
    if path.stat().st_mode & 0o077:
        raise WeakSecretError(f"{path.name} can be read by others; run: chmod 600 on it")
    check_secret(secret)
    return secret


def check_secret(secret: str) -> None:
    """Refuses what is short, repetitive, or a UUID (version 1 is clock and hardware address, no secret)."""
    try:
        uuid.UUID(secret)
    except ValueError:
        if len(secret) >= SHORTEST_SECRET and len(set(secret)) >= SHORTEST_SECRET // 3:
            return
    raise WeakSecretError(
        "the token secret is weak; let the server make one (delete the file), or use 64 random characters"
    )


@dataclass(frozen=True)
class Lifetimes:
    access: dt.timedelta = dt.timedelta(minutes=30)
    refresh: dt.timedelta = dt.timedelta(days=30)
    # An upper bound: it ends with the run.
    container: dt.timedelta = dt.timedelta(days=7)


class Tokens:
    """Signed claims. `identity` stands beside `sub`, because that is where programs for 1.x look."""

    def __init__(self, secret: str, lifetimes: Lifetimes | None = None) -> None:
        check_secret(secret)
        self._secret = secret
        self.lifetimes = lifetimes or Lifetimes()
        # A token comes with every call of its hour.
        self._signed_here = lru_cache(KEPT_TOKENS)(self._verified)

    def derived_key(self, purpose: str) -> bytes:
        """256 bits for another purpose, from which nobody can come back to the secret or to another purpose's key."""
        kdf = HKDF(algorithm=hashes.SHA256(), length=32, salt=None, info=f"vantage6 server {purpose}".encode())
        return kdf.derive(self._secret.encode())

    def access(self, kind: str, owner_id: int, session_id: int, roles: list[str]) -> str:
        return self._sign(
            self.lifetimes.access, type="access", sub=f"{kind}:{owner_id}", identity=owner_id, sid=session_id,
            fresh=False, user_claims={"type": kind, "roles": roles},
        )  # fmt: skip

    def refresh(self, kind: str, owner_id: int, session_id: int, *, keeps: bool = False) -> str:
        """`keeps`: good for one that keeps it, as programs for 1.x do (AccountRules.refresh)."""
        return self._sign(
            self.lifetimes.refresh, type="refresh", sub=f"{kind}:{owner_id}", identity=owner_id, sid=session_id,
            **({"keeps": True} if keeps else {}),
        )  # fmt: skip

    def container(self, result_id: int, identity: dict[str, object]) -> str:
        return self._sign(
            self.lifetimes.container, type="access", sub=f"container:{result_id}", identity=identity, fresh=False,
            user_claims={"type": "container", "roles": []},
        )  # fmt: skip

    def read(self, token: str, kind: str) -> dict[str, Any]:
        """Claims of a token of type `kind` that was signed here and has not expired."""
        try:
            claims = self._signed_here(token)
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("This is no token of this server.") from error
        if claims["exp"] <= now().timestamp():
            raise Unauthenticated("The token has expired; log in or refresh it.")
        if claims.get("type") != kind:
            raise Unauthenticated(f"This is no {kind} token.")
        return dict(claims)

    def _verified(self, token: str) -> Mapping[str, Any]:
        """Claims of a token that was signed here, expired or not; what is true of it once stays true."""
        claims: dict[str, Any] = jwt.decode(
            token, self._secret, algorithms=[ALGORITHM],
            options={"require": ["exp", "sub", "jti"], "verify_exp": False},
        )  # fmt: skip
        if not isinstance(claims["exp"], int):
            raise jwt.InvalidTokenError("exp is no whole number")
        return claims

    def _sign(self, lifetime: dt.timedelta, **claims: object) -> str:
        issued = int(now().timestamp())
        times = {"iat": issued, "nbf": issued, "exp": issued + int(lifetime.total_seconds())}
        return self._jws({**times, "jti": secrets.token_hex(16), **claims})

    def _jws(self, claims: dict[str, object]) -> str:
        """As `jwt.encode`, which looks at the secret anew each time; a task for a thousand nodes needs a thousand."""
        body = base64.urlsafe_b64encode(json.dumps(claims, separators=(",", ":")).encode()).rstrip(b"=")
        signed = _HEADER + b"." + body
        signature = base64.urlsafe_b64encode(hmac.digest(self._secret.encode(), signed, "sha256")).rstrip(b"=")
        return (signed + b"." + signature).decode()
