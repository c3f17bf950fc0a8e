"""Passwords, the tokens' key, and the throttle."""

from __future__ import annotations

from pathlib import Path

import pytest
from argon2 import PasswordHasher

from vantage6.common.errors import InvalidArgument, Throttled, Unauthenticated
from vantage6.server.domain import secrets
from vantage6.server.domain.secrets import (
    Passwords,
    Tokens,
    WeakSecretError,
    check_password_strength,
    load_secret,
    new_secret,
)
from vantage6.server.domain.throttle import Throttle


@pytest.mark.attack("GHSA-m3mq-f375-5vgh")
def test_the_key_of_the_tokens_is_made_once_and_for_the_server_alone(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "token.secret"
    made = load_secret(path)
    assert len(made) == 128
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_secret(path) == made
    path.chmod(0o644)
    with pytest.raises(WeakSecretError):
        load_secret(path)


@pytest.mark.attack("GHSA-m3mq-f375-5vgh")
@pytest.mark.parametrize(
    "weak",
    ["", "secret", "x" * 64, "abc" * 20, "2c5ea4c0-4067-11e9-8bad-9b1deb4d3b7d", "7073acc9d0b4414993f0e4b6c249e7c8"],
)
def test_a_weak_key_is_refused(tmp_path: Path, weak: str) -> None:
    path = tmp_path / "token.secret"
    path.touch(mode=0o600)
    path.write_text(weak)
    with pytest.raises(WeakSecretError):
        load_secret(path)
    with pytest.raises(WeakSecretError):
        Tokens(weak)


@pytest.mark.attack("GHSA-m3mq-f375-5vgh")
def test_a_token_that_was_good_before_is_refused_once_it_has_expired(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = Tokens(new_secret())
    token = tokens.access("user", 1, 1, [])
    claims = tokens.read(token, "access")
    claims["sub"] = "user:2"
    assert tokens.read(token, "access")["sub"] == "user:1"
    with pytest.raises(Unauthenticated, match="no refresh token"):
        tokens.read(token, "refresh")
    later = secrets.now() + tokens.lifetimes.access
    monkeypatch.setattr(secrets, "now", lambda: later)
    with pytest.raises(Unauthenticated, match="expired"):
        tokens.read(token, "access")


@pytest.mark.attack("CVE-2024-21671")
async def test_an_unknown_user_costs_as_much_work_as_a_known_one() -> None:
    done: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # type: ignore[override]  # noqa: A002
            # Without salt and hash: what the work depends on.
            done.append(str(hash).rsplit("$", 2)[0])
            return super().verify(hash, password)

    hasher = Counting(time_cost=1, memory_cost=8, parallelism=1)
    passwords = Passwords(hasher)
    known = await passwords.hash("right")
    assert await passwords.check("right", known)
    assert not await passwords.check("wrong", known)
    assert not await passwords.check("right", None)
    assert not await passwords.check("right", "not a hash")
    assert done[:3] == ["$argon2id$v=19$m=8,t=1,p=1"] * 3
    assert len(done) == 4
    passwords.close()


def test_passwords_are_judged_by_length_and_by_being_common() -> None:
    check_password_strength("eight ch")
    check_password_strength("no digits or capitals needed")
    for weak in ("seven c", "PASSWORD", "x" * 257, "ada lovelace"):
        with pytest.raises(InvalidArgument):
            check_password_strength(weak, "Ada Lovelace")


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.attack("CVE-2025-43863")
def test_guessing_gets_slower_and_slower() -> None:
    clock = Clock()
    throttle = Throttle(free=3, longest=60, clock=clock)
    waits: list[int] = []
    for _ in range(12):
        clock.now += max(waits, default=0) + 1
        throttle.check("user:ada", "10.0.0.1")
        throttle.failed("user:ada", "10.0.0.1")
        try:
            throttle.check("user:ada", "10.0.0.1")
        except Throttled as error:
            waits.append(int(error.metadata["retry_after"]))
    assert waits == sorted(waits)
    assert 60 <= waits[-1] <= 61
    throttle.check("user:ben", "10.0.0.2")
    throttle.succeeded("user:ada", "10.0.0.1")
    throttle.check("user:ada", "10.0.0.3")


@pytest.mark.attack("CVE-2025-43863")
def test_an_address_that_tries_many_accounts_is_slowed_too() -> None:
    throttle = Throttle(address_free=5, clock=Clock())
    for number in range(5):
        throttle.failed(f"user:{number}", "10.0.0.1")
    with pytest.raises(Throttled):
        throttle.check("user:another", "10.0.0.1")
    throttle.check("user:another", "10.0.0.2")


def test_many_good_log_ins_from_one_address_are_no_attack() -> None:
    throttle = Throttle(address_free=5, clock=Clock())
    for _ in range(100):
        throttle.check("user:ada", "10.0.0.1")
        throttle.failed("user:ada", "10.0.0.1")
        throttle.succeeded("user:ada", "10.0.0.1")
