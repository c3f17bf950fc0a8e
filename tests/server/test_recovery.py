"""A lost password comes back by mail, once, and tells nobody who has an account."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
from typing import Any

import grpc
import pytest

from vantage6.api.v1 import auth_pb2, user_pb2
from vantage6.common.errors import FailedPrecondition, Throttled, from_rpc_error
from vantage6.server.domain.recovery import Lost, RecoveryRules
from vantage6.server.domain.secrets import hash_token
from vantage6.server.store.security import PASSWORD_RESET

from .conftest import Hospitals
from .live import PASSWORD, ROOT_PASSWORD, Live
from .test_accounts import login, refused

NEW = "a lost battery, found again"


async def lose(live: Live, **who: str) -> str:
    answer = await live.stubs.auth.LosePassword(auth_pb2.LosePasswordRequest(**who))
    await live.recovery.idle()
    return str(answer.msg)


def reset(live: Live, token: str, password: str = NEW) -> Any:
    return live.stubs.auth.ResetPassword(auth_pb2.ResetPasswordRequest(reset_token=token, password=password))


def token_in(live: Live) -> str:
    found = re.search(r"^    (\S{43})$", live.mailbox.mails[-1][2], re.MULTILINE)
    assert found is not None
    return found.group(1)


@pytest.mark.row("M08")
@pytest.mark.parametrize("who", [{"username": "root"}, {"email": "ROOT@localhost"}])
async def test_a_mailed_token_sets_the_password_once_and_ends_all_sessions(live: Live, who: dict[str, str]) -> None:
    before = await live.login()
    await lose(live, **who)
    assert [mail[0] for mail in live.mailbox.mails] == ["root@localhost"]
    token = token_in(live)
    assert "password" in (await reset(live, token)).msg
    assert (await refused(live.stubs.users.GetUser(user_pb2.GetUserRequest(id=1), metadata=before))).code() is (
        grpc.StatusCode.UNAUTHENTICATED
    )
    assert (await refused(login(live))).code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await login(live, password=NEW)).access_token
    assert (await refused(reset(live, token))).code() is grpc.StatusCode.UNAUTHENTICATED


async def test_of_two_uses_at_once_one_wins(live: Live) -> None:
    await lose(live, username="root")
    token = token_in(live)
    answers = await asyncio.gather(*(reset(live, token, f"{NEW} {i}") for i in range(4)), return_exceptions=True)
    assert sum(isinstance(answer, auth_pb2.ResetPasswordResponse) for answer in answers) == 1


async def test_a_weak_password_does_not_spend_the_token(live: Live) -> None:
    await lose(live, username="root")
    for weak in ("short", "password1", "root@localhost", "Sunshine123!"):
        assert (await refused(reset(live, token_in(live), weak))).code() is grpc.StatusCode.INVALID_ARGUMENT
    assert (await reset(live, token_in(live))).msg


async def test_only_the_newest_token_is_good_and_not_for_ever(live: Live) -> None:
    await lose(live, username="root")
    first = token_in(live)
    await lose(live, username="root")
    assert (await refused(reset(live, first))).code() is grpc.StatusCode.UNAUTHENTICATED
    async with live.database.write() as store:
        late = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=61)
        assert await store.security.owner_of_secret(PASSWORD_RESET, hash_token(token_in(live)), late) is None
        assert await store.security.owner_of_secret(PASSWORD_RESET, hash_token(token_in(live)), dt.datetime.now(dt.UTC))


@pytest.mark.attack("CVE-2024-24770")
async def test_cve_2024_24770_unknown_users_get_the_same_answer_and_no_work_is_done_in_the_call(live: Live) -> None:
    """The answer comes before anything is looked up, so neither it nor its time can tell."""
    assert await lose(live, username="root") == await lose(live, username="nobody of this name")
    assert await lose(live, email="root@localhost") == await lose(live, email="nobody@localhost")
    assert {mail[0] for mail in live.mailbox.mails} == {"root@localhost"}
    asleep = RecoveryRules(live.database, live.passwords, live.mailbox)
    sent = len(live.mailbox.mails)
    for name in ("root", "nobody"):
        asleep.lose(Lost(name), "10.0.0.1")
    assert len(live.mailbox.mails) == sent


@pytest.mark.attack("CVE-2024-24769")
async def test_cve_2024_24769_mails_are_limited_by_account_and_by_address(live: Live) -> None:
    for name in ("root", "nobody"):
        for _ in range(3):
            await lose(live, username=name)
        error = from_rpc_error(await refused(live.stubs.auth.LosePassword(auth_pb2.LosePasswordRequest(username=name))))
        assert isinstance(error, Throttled)
    assert len(live.mailbox.mails) == 3
    # By another of its names, the same account gets no more mails, and the caller does not learn why.
    await lose(live, email="root@localhost")
    assert len(live.mailbox.mails) == 3
    for number in range(3):
        await lose(live, username=f"somebody {number}")
    assert isinstance(from_rpc_error(await refused(lose(live, username="fresh name"))), Throttled)


@pytest.mark.attack("X14")
async def test_x14_nothing_that_a_user_wrote_is_in_the_mail(hospitals: Hospitals) -> None:
    live, link = hospitals.live, "https://evil.example/click"
    user = user_pb2.CreateUserRequest(
        username=link, email="victim@hospital.example", password=PASSWORD, firstname=link, organization_id=hospitals.a
    )
    await live.stubs.users.CreateUser(user, metadata=hospitals.root)
    await lose(live, username=link)
    to, subject, body = live.mailbox.mails[-1]
    assert to == "victim@hospital.example"
    assert "evil" not in subject + body
    for address in ("a@b.example\nBcc: c@d.example", "a@b.example\r\n\r\nhello", "a@b.example, c@d.example", "a b@c.d"):
        bad = user_pb2.CreateUserRequest(username="x", email=address, password=PASSWORD, organization_id=hospitals.a)
        error = await refused(live.stubs.users.CreateUser(bad, metadata=hospitals.root))
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.attack
async def test_reset_tokens_cannot_be_guessed_for_long(live: Live) -> None:
    codes = [(await refused(reset(live, f"guess {i}"))).code() for i in range(14)]
    assert codes[0] is grpc.StatusCode.UNAUTHENTICATED
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_token_is_not_in_the_database(live: Live) -> None:
    await lose(live, username="root")
    async with live.database.engine.connect() as connection:
        dump = await connection.exec_driver_sql("SELECT hash FROM one_time_secrets")
        stored = [row[0] for row in dump]
    assert stored == [hash_token(token_in(live))]


async def test_without_a_mail_server_it_says_so(live: Live) -> None:
    with pytest.raises(FailedPrecondition, match="administrator"):
        RecoveryRules(live.database, live.passwords).lose(Lost("root"), "10.0.0.1")
    assert (await login(live, password=ROOT_PASSWORD)).access_token


async def test_one_of_name_and_address_is_wanted(live: Live) -> None:
    for who in ({}, {"username": "root", "email": "root@localhost"}):
        assert (await refused(lose(live, **who))).code() is grpc.StatusCode.INVALID_ARGUMENT
