"""The second factor: TOTP codes that are good once, and recovery codes for the day when the telephone is gone."""

from __future__ import annotations

import base64
import secrets
import time
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vantage6.common.errors import FailedPrecondition, Unauthenticated
from vantage6.server.domain.audit import about
from vantage6.server.domain.caller import Caller, Operation, Resource, UserCaller
from vantage6.server.domain.people import require_not_above, visible_user
from vantage6.server.domain.permissions import require, require_user
from vantage6.server.domain.secrets import Passwords, Tokens, hash_token
from vantage6.server.domain.totp import matching_step, new_totp_secret
from vantage6.server.store.security import RECOVERY_CODE

if TYPE_CHECKING:
    from collections.abc import Callable

    from vantage6.server.domain.throttle import Throttle
    from vantage6.server.store.sql import Database, Store
    from vantage6.server.store.tables import SecondFactor, User

RECOVERY_CODES = 10
NONCE = 12
WRONG = "The password or the code is wrong."


class CodeBook:
    """Checks codes. The secrets are encrypted at rest: a copy of the database alone makes no codes."""

    def __init__(self, tokens: Tokens, clock: Callable[[], float] = time.time) -> None:
        self._cipher = AESGCM(tokens.derived_key("second factor"))
        self._clock = clock

    def sealed(self, user_id: int, secret: bytes) -> bytes:
        nonce = secrets.token_bytes(NONCE)
        return nonce + self._cipher.encrypt(nonce, secret, str(user_id).encode())

    async def accepts(self, store: Store, factor: SecondFactor, code: str) -> bool:
        """Spends the code, so the caller has to commit; `store` is of a writing transaction."""
        code = code.replace(" ", "").replace("-", "").upper()
        step = self._step(factor, code)
        if step is not None:
            return await store.security.advance_second_factor(factor.user_id, step)
        return await store.security.spend_secret(factor.user_id, RECOVERY_CODE, hash_token(code))

    def _step(self, factor: SecondFactor, code: str) -> int | None:
        nonce, sealed = factor.secret[:NONCE], factor.secret[NONCE:]
        try:
            secret = self._cipher.decrypt(nonce, sealed, str(factor.user_id).encode())
        except InvalidTag:
            # The token secret was changed since: recovery codes are still good.
            return None
        return matching_step(secret, code, self._clock())


def new_recovery_codes() -> list[str]:
    """80 random bits each: they can be hashed like tokens."""
    texts = (base64.b32encode(secrets.token_bytes(10)).decode() for _ in range(RECOVERY_CODES))
    return ["-".join(text[i : i + 4] for i in range(0, 16, 4)) for text in texts]


class SecondFactorRules:
    def __init__(self, database: Database, book: CodeBook, passwords: Passwords, throttle: Throttle) -> None:
        self._database = database
        self._book = book
        self._passwords = passwords
        self._throttle = throttle

    async def create(self, caller: Caller, password: str, peer: str) -> tuple[bytes, str]:
        """A new secret, shown this once, and the user's name; one that was never confirmed is replaced."""
        user = require_user(caller)
        await self._check_password(user, password, peer)
        secret = new_totp_secret()
        async with self._database.write() as store:
            present = await store.security.second_factor(user.id)
            if present is not None and present.confirmed:
                raise FailedPrecondition("You have a second factor already; delete it first.")
            await store.security.put_second_factor(user.id, self._book.sealed(user.id, secret))
        self._throttle.succeeded(_account(user.username), peer)
        return secret, user.username

    async def confirm(self, caller: Caller, code: str, peer: str) -> list[str]:
        """Recovery codes, shown this once."""
        user = require_user(caller)
        account = _account(user.username)
        self._throttle.check(account, peer)
        self._throttle.failed(account, peer)
        codes = new_recovery_codes()
        async with self._database.write() as store:
            factor = await store.security.second_factor(user.id)
            if factor is None or factor.confirmed:
                raise FailedPrecondition("There is no new second factor to confirm; create one first.")
            if not await self._book.accepts(store, factor, code):
                raise Unauthenticated("mfa_code: is wrong.", field="mfa_code")
            factor.confirmed = True
            await store.security.add_secrets(
                user.id, RECOVERY_CODE, [hash_token(entry.replace("-", "")) for entry in codes]
            )
        self._throttle.succeeded(account, peer)
        return codes

    async def delete(self, caller: Caller, user_id: int | None, password: str, code: str, peer: str) -> None:
        """The own one with password and code; somebody else's by who may edit the account (a lost telephone)."""
        user = require_user(caller)
        target = user.id if user_id is None else user_id
        about(f"user:{target}")
        async with self._database.read() as store:
            await _require_target(store, user, target)
        # The right password alone does not count as a success: its owner could go on guessing codes.
        await self._check_password(user, password, peer)
        async with self._database.write() as store:
            await _require_target(store, user, target)
            own = await store.security.second_factor(user.id)
            if own is not None and own.confirmed and not await self._book.accepts(store, own, code):
                raise Unauthenticated(WRONG, field="mfa_code")
            await store.security.remove_second_factor(target)
        self._throttle.succeeded(_account(user.username), peer)

    async def _check_password(self, caller: UserCaller, password: str, peer: str) -> None:
        """A stolen token must not be enough; throttled like a log-in. The caller says when all of it `succeeded`."""
        account = _account(caller.username)
        self._throttle.check(account, peer)
        self._throttle.failed(account, peer)
        async with self._database.read() as store:
            row = await store.accounts.user(caller.id)
        if not await self._passwords.check(password, row.password_hash if row else None):
            raise Unauthenticated(WRONG, field="password")


async def _require_target(store: Store, caller: UserCaller, user_id: int) -> User:
    row = await visible_user(store, caller, user_id)
    if row.id != caller.id:
        require(caller, Resource.USER, Operation.EDIT, organization_id=row.organization_id)
        require_not_above(caller, row)
    elif await store.security.second_factor(user_id) is None:
        raise FailedPrecondition("You have no second factor.")
    return row


def _account(username: str) -> str:
    return f"user:{username.lower()}"
