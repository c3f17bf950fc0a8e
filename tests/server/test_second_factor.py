"""TOTP and recovery codes: each good once, and never lifted by what a mail can do."""

from __future__ import annotations

import base64
import time
from typing import Any

import grpc
import pytest

from vantage6.api.v1 import auth_pb2
from vantage6.common.errors import SecondFactorRequired, Unauthenticated, from_rpc_error
from vantage6.server.domain.totp import SECONDS, code_at, matching_step, provisioning_uri

from .conftest import Hospitals
from .live import PASSWORD, ROOT_PASSWORD, Live, Metadata
from .test_accounts import refused
from .test_recovery import NEW, lose, reset, token_in

RFC_SECRET = b"12345678901234567890"


@pytest.mark.parametrize(
    ("moment", "code"),
    [
        (59, "94287082"), (1111111109, "07081804"), (1111111111, "14050471"), (1234567890, "89005924"),
        (2000000000, "69279037"), (20000000000, "65353130"),
    ],
)  # fmt: skip
def test_the_vectors_of_rfc_6238(moment: int, code: str) -> None:
    assert code_at(RFC_SECRET, moment // SECONDS, digits=8) == code
    assert matching_step(RFC_SECRET, code[-6:], moment) == moment // SECONDS


def test_neighbouring_steps_are_heard_and_others_are_not() -> None:
    codes = {offset: code_at(RFC_SECRET, 1000 + offset) for offset in range(-2, 3)}
    heard = {offset: matching_step(RFC_SECRET, code, 1000 * SECONDS) for offset, code in codes.items()}
    assert heard == {-2: None, -1: 999, 0: 1000, 1: 1001, 2: None}
    assert matching_step(RFC_SECRET, "", 0) is None


def test_the_uri_cannot_be_broken_by_a_name() -> None:
    assert provisioning_uri(b"x", "vantage6", "a&secret=b?:/").startswith(
        "otpauth://totp/vantage6:a%26secret%3Db%3F%3A%2F?"
    )


class Phone:
    """Gives codes, each of a later step than the one before (within what the server tolerates)."""

    def __init__(self, secret: str) -> None:
        self.secret = base64.b32decode(secret + "=" * (-len(secret) % 8))

    def code(self, offset: int = 0) -> str:
        return code_at(self.secret, int(time.time()) // SECONDS + offset)


async def log_in(live: Live, code: str = "", username: str = "root", password: str = ROOT_PASSWORD) -> Any:
    request = auth_pb2.CreateUserTokenRequest(username=username, password=password, mfa_code=code)
    return await live.stubs.auth.CreateUserToken(request)


async def switch_on(live: Live, metadata: Metadata, password: str = ROOT_PASSWORD) -> tuple[Phone, list[str]]:
    made = await live.stubs.auth.CreateSecondFactor(
        auth_pb2.CreateSecondFactorRequest(password=password), metadata=metadata
    )
    phone = Phone(made.secret)
    assert made.secret in made.uri
    confirm = auth_pb2.ConfirmSecondFactorRequest(mfa_code=phone.code(-1))
    confirmed = await live.stubs.auth.ConfirmSecondFactor(confirm, metadata=metadata)
    return phone, list(confirmed.recovery_codes)


async def test_it_counts_from_the_first_code_on_and_then_is_required(live: Live) -> None:
    root = await live.login()
    create = auth_pb2.CreateSecondFactorRequest(password=ROOT_PASSWORD)
    await live.stubs.auth.CreateSecondFactor(create, metadata=root)
    assert (await log_in(live)).access_token  # Not confirmed: whoever closed the window is not locked out.
    phone, codes = await switch_on(live, root)
    assert len(set(codes)) == 10
    assert isinstance(from_rpc_error(await refused(log_in(live))), SecondFactorRequired)
    assert (await log_in(live, phone.code())).access_token
    error = await refused(live.stubs.auth.CreateSecondFactor(create, metadata=root))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.attack
async def test_a_code_is_good_once(live: Live) -> None:
    phone, codes = await switch_on(live, await live.login())
    replayed = from_rpc_error(await refused(log_in(live, phone.code(-1))))
    assert type(replayed) is Unauthenticated
    later = phone.code(1)
    assert (await log_in(live, later)).access_token
    for old in (later, phone.code()):
        assert (await refused(log_in(live, old))).code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await log_in(live, codes[0].lower())).access_token
    assert (await refused(log_in(live, codes[0]))).code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await log_in(live, codes[1].replace("-", " "))).access_token


@pytest.mark.attack
async def test_codes_cannot_be_guessed_for_long(live: Live) -> None:
    await switch_on(live, await live.login())
    codes = [(await refused(log_in(live, f"{i:06d}"))).code() for i in range(8)]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes[4:]


@pytest.mark.attack("CVE-2025-43863")
async def test_codes_cannot_be_guessed_for_long_by_who_is_logged_in(live: Live) -> None:
    """The password is right each time; what is guessed is the code that takes the second factor away."""
    root = await live.login()
    await switch_on(live, root)
    guesses = [auth_pb2.DeleteSecondFactorRequest(password=ROOT_PASSWORD, mfa_code=f"{i:06d}") for i in range(8)]
    codes = [(await refused(live.stubs.auth.DeleteSecondFactor(each, metadata=root))).code() for each in guesses]
    assert grpc.StatusCode.RESOURCE_EXHAUSTED in codes[4:]


@pytest.mark.attack("CVE-2024-27928")
async def test_cve_2024_27928_a_reset_by_mail_leaves_it_on(live: Live) -> None:
    phone, _ = await switch_on(live, await live.login())
    await lose(live, username="root")
    await reset(live, token_in(live))
    error = from_rpc_error(await refused(log_in(live, password=NEW)))
    assert isinstance(error, SecondFactorRequired)
    assert (await log_in(live, phone.code(1), password=NEW)).access_token


@pytest.mark.attack
async def test_a_stolen_token_is_not_enough(live: Live) -> None:
    root = await live.login()
    stubs = live.stubs.auth
    wrong = auth_pb2.CreateSecondFactorRequest(password="wrong password")
    assert (await refused(stubs.CreateSecondFactor(wrong, metadata=root))).code() is grpc.StatusCode.UNAUTHENTICATED
    phone, _ = await switch_on(live, root)
    for password, code in (("wrong password", phone.code(1)), (ROOT_PASSWORD, ""), (ROOT_PASSWORD, "000000")):
        request = auth_pb2.DeleteSecondFactorRequest(password=password, mfa_code=code)
        error = await refused(stubs.DeleteSecondFactor(request, metadata=root))
        assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    request = auth_pb2.DeleteSecondFactorRequest(password=ROOT_PASSWORD, mfa_code=phone.code(1))
    await stubs.DeleteSecondFactor(request, metadata=root)
    assert (await log_in(live)).access_token


@pytest.mark.attack
async def test_the_secret_is_not_readable_in_the_database(live: Live) -> None:
    phone, codes = await switch_on(live, await live.login())
    async with live.database.read() as store:
        factor = await store.security.second_factor(1)
    assert factor is not None
    assert phone.secret not in factor.secret
    async with live.database.engine.connect() as connection:
        hashes = {row[0] for row in await connection.exec_driver_sql("SELECT hash FROM one_time_secrets")}
    assert len(hashes) == 10
    assert not hashes & {entry for code in codes for entry in (code, code.replace("-", ""))}


async def test_an_administrator_lifts_it_for_those_below_and_for_nobody_else(hospitals: Hospitals) -> None:
    live = hospitals.live
    victim = hospitals.users["researcher_a"]
    await switch_on(live, await live.login("researcher_a"), PASSWORD)
    request = auth_pb2.DeleteSecondFactorRequest(user_id=victim, password=PASSWORD)
    for name in ("viewer_a", "organization_admin_b"):
        error = await refused(live.stubs.auth.DeleteSecondFactor(request, metadata=await live.login(name)))
        assert error.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}
    admin = await live.login("organization_admin_a")
    await live.stubs.auth.DeleteSecondFactor(request, metadata=admin)
    assert (await log_in(live, username="researcher_a", password=PASSWORD)).access_token
    above = auth_pb2.DeleteSecondFactorRequest(user_id=1, password=PASSWORD)
    error = await refused(live.stubs.auth.DeleteSecondFactor(above, metadata=admin))
    assert error.code() in {grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.NOT_FOUND}
