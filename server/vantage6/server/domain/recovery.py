"""A lost password: a token goes out by mail, comes back once, and sets a new password."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from vantage6.common.errors import FailedPrecondition, InvalidArgument, Throttled, Unauthenticated
from vantage6.server.domain.audit import about
from vantage6.server.domain.secrets import Passwords, check_password_strength, hash_token, new_secret, now
from vantage6.server.domain.throttle import Throttle
from vantage6.server.store.security import PASSWORD_RESET

if TYPE_CHECKING:
    from collections.abc import Callable

    from vantage6.server.domain.bus import Bus
    from vantage6.server.store.sql import Database
    from vantage6.server.store.tables import User

log = structlog.get_logger(__name__)

LIFETIME = dt.timedelta(hours=1)
MOST_WAITING = 1_000
SUBJECT = "Set a new vantage6 password"
BAD_TOKEN = "reset_token: is not good (any more); ask for a new one."  # noqa: S105
# Nothing in it was written by a user: a name could hold a link (X14).
BODY = """Somebody, probably you, asked for a new password for your vantage6 account.

Your reset token, good once and for one hour:

    {token}

{how}
If it was not you, ignore this mail: nothing has changed. A second factor stays as it is.
"""


class Mailer(Protocol):
    async def send(self, to: str, subject: str, body: str) -> None:
        """Raises OSError (SMTPException is one) where the mail server does not take it."""


@dataclass(frozen=True)
class Lost:
    """Somebody says that they lost their password; one of the two is given."""

    username: str = ""
    email: str = ""


class RecoveryRules:
    """`mailer` is None where no mail server is configured: then there is no recovery by mail.

    The caller's answer does not wait for anything: whether the user exists shows neither in it nor in its time
    (CVE-2024-24770). `run` does the work.
    """

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        mailer: Mailer | None = None,
        *,
        reset_page: str = "",
        clock: Callable[[], float] | None = None,
        bus: Bus | None = None,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._mailer = mailer
        self._reset_page = reset_page
        # Every request counts, successful or not (CVE-2024-24769): three at once, then an ever longer wait.
        self._asked = Throttle(free=3, longest=3600.0, address_free=10, clock=clock, bus=bus, name="mail asked for")
        self._mailed = Throttle(free=3, longest=3600.0, clock=clock, bus=bus, name="mail sent")
        self._guesses = Throttle(address_free=10, clock=clock, bus=bus, name="reset")
        self._waiting: asyncio.Queue[Lost] = asyncio.Queue(MOST_WAITING)

    def lose(self, lost: Lost, peer: str) -> None:
        """Puts the request into the queue."""
        if bool(lost.username) == bool(lost.email):
            raise InvalidArgument("username: give either username or email.", field="username")
        if self._mailer is None:
            raise FailedPrecondition("This server sends no mail; ask an administrator for a new password.")
        account = f"lost:{(lost.username or lost.email).lower()[:254]}"
        self._asked.check(account, peer)
        self._asked.failed(account, peer)
        try:
            self._waiting.put_nowait(lost)
        except asyncio.QueueFull:
            # The same for everybody; the log has to tell it.
            log.warning("password_mail_dropped", waiting=self._waiting.qsize())

    async def run(self) -> None:
        """Works until cancelled."""
        while True:
            lost = await self._waiting.get()
            try:
                await self._help(lost)
            except Exception as error:  # noqa: BLE001  # One failure must not end the recovery of all others.
                log.warning("password_mail_failed", error=type(error).__name__)
            finally:
                self._waiting.task_done()

    async def idle(self) -> None:
        """Waits until all that was asked for so far is done."""
        await self._waiting.join()

    async def _help(self, lost: Lost) -> None:
        async with self._database.read() as store:
            by_name = await store.accounts.user_by_name(lost.username) if lost.username else None
            user = by_name or (await store.accounts.user_by_email(lost.email) if lost.email else None)
        if user is None or self._mailer is None or not self._may_mail(user):
            return
        token = new_secret()
        async with self._database.write() as store:
            await store.security.forget_secrets(now())
            # Only the newest one is good.
            await store.security.remove_secrets(user.id, PASSWORD_RESET)
            await store.security.add_secrets(user.id, PASSWORD_RESET, [hash_token(token)], now() + LIFETIME)
        how = f"Use it on {self._reset_page}\n" if self._reset_page else ""
        await self._mailer.send(user.email, SUBJECT, BODY.format(token=token, how=how))
        log.info("password_mail_sent", user=user.id)

    def _may_mail(self, user: User) -> bool:
        """By the account, whichever of its names was given."""
        try:
            self._mailed.check(f"user:{user.id}", "")
        except Throttled:
            return False
        self._mailed.failed(f"user:{user.id}", "")
        return True

    async def reset(self, token: str, password: str, peer: str) -> None:
        """Sets the password, ends every session, and leaves the second factor alone (CVE-2024-27928)."""
        self._guesses.check("", peer)
        self._guesses.failed("", peer)
        hashed = hash_token(token)
        async with self._database.read() as store:
            owner = await store.security.owner_of_secret(PASSWORD_RESET, hashed, now())
            user = None if owner is None else await store.accounts.user(owner)
        if user is None:
            raise Unauthenticated(BAD_TOKEN, field="reset_token")
        about(f"user:{user.id}")
        # A refused password does not spend the token.
        check_password_strength(password, user.username, user.email)
        password_hash = await self._passwords.hash(password)
        async with self._database.write() as store:
            if not await store.security.spend_secret(user.id, PASSWORD_RESET, hashed):
                raise Unauthenticated(BAD_TOKEN, field="reset_token")
            row = await store.accounts.user(user.id)
            if row is None:
                raise Unauthenticated(BAD_TOKEN, field="reset_token")
            row.password_hash = password_hash
            await store.accounts.revoke_sessions(user_id=user.id)
            store.rights_changed(user.id)
        self._guesses.succeeded("", peer)
