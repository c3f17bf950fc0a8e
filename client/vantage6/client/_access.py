"""How the user who is logged in gets in: the sessions, and the second factor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vantage6.client import _contract as v1
from vantage6.client._models import LogIn, SecondFactor
from vantage6.client._parties import Noun

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Sessions(Noun):
    """The own log-ins: one for each `authenticate`, until it is ended or has long not been used."""

    async def list(self) -> AsyncIterator[LogIn]:
        async for each in self._session.stream(self._session.session.ListSessions, v1.auth_pb2.ListSessionsRequest()):
            yield LogIn.read(each)

    async def delete(self, id: int) -> None:  # noqa: A002
        """Ends one: its tokens are good no more, wherever they are."""
        await self._session.ask(self._session.session.DeleteSession, v1.auth_pb2.DeleteSessionRequest(id=id))


class SecondFactors(Noun):
    """A code from a telephone beside the password (TOTP)."""

    async def create(self, password: str) -> SecondFactor:
        """Makes the secret for an authenticator; it counts once `confirm` has had a code of it."""
        request = v1.auth_pb2.CreateSecondFactorRequest(password=password)
        return SecondFactor.read(await self._session.ask(self._session.session.CreateSecondFactor, request))

    async def confirm(self, mfa_code: str) -> tuple[str, ...]:
        """Switches it on. Returns the recovery codes, each good once, which nobody shows a second time."""
        request = v1.auth_pb2.ConfirmSecondFactorRequest(mfa_code=mfa_code)
        answer = await self._session.ask(self._session.session.ConfirmSecondFactor, request)
        return tuple(answer.recovery_codes)

    async def delete(self, password: str, mfa_code: str = "", user: int | None = None) -> None:
        """Switches it off: the own one, or that of another user who has lost it. Password and code are one's own."""
        request = v1.auth_pb2.DeleteSecondFactorRequest(user_id=user, password=password, mfa_code=mfa_code)
        await self._session.ask(self._session.session.DeleteSecondFactor, request)
