"""A log-in that outlives the program: where the tokens lie, who may read them, and two programs with one session."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.client.fakes import OWN, Fake
from vantage6.client import AsyncClient
from vantage6.client._login import LoginFile
from vantage6.client.errors import Unauthenticated


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "login.json"


def connect(url: str, file: Path) -> AsyncClient:
    return AsyncClient(url, login_file=file, known_organizations=file.parent / "known.json")


async def log_in(url: str, file: Path) -> None:
    async with connect(url, file) as client:
        await client.authenticate("alice", "secret")


def check_rights(file: Path) -> None:
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o077 == 0
    assert not [each for each in file.parent.iterdir() if each.suffix not in (".json", ".lock")]
    assert "secret" not in file.read_text()  # the password


@pytest.mark.attack
async def test_tokens_are_for_their_owner_only(url: str, file: Path) -> None:
    await log_in(url, file)
    check_rights(file)
    assert "access" not in repr(LoginFile(file).read())


async def test_another_program_goes_on(url: str, file: Path, fake: Fake) -> None:
    await log_in(url, file)
    async with connect(url, file) as client:
        whoami = await client.resume()
        assert (whoami.username, whoami.organization_name) == ("alice", "University")
        assert (await client.organization.get(OWN)).name == "University"
    assert fake.refreshed == []


async def test_programs_with_one_session_renew_it_once(url: str, file: Path, fake: Fake) -> None:
    """A refresh token that is used twice ends the session."""
    await log_in(url, file)
    async with connect(url, file) as one, connect(url, file) as other:
        await one.resume()
        await other.resume()
        fake.access.clear()
        await asyncio.gather(one.organization.get(OWN), other.organization.get(OWN))
        assert fake.refreshed == ["refresh-0"]
        found = LoginFile(file).read()
        assert found is not None
        assert found.refresh == "refresh-1"
        assert found.username == "alice"
    async with connect(url, file) as third:
        await third.resume()
        assert (await third.organization.get(OWN)).id == OWN


async def test_a_token_near_its_end_is_renewed_by_who_finds_it(url: str, file: Path, fake: Fake) -> None:
    await log_in(url, file)
    old = LoginFile(file).read()
    assert old is not None
    LoginFile(file).write(replace(old, renew_at=time.time() - 1))
    async with connect(url, file) as client:
        await client.resume()
        await client.organization.get(OWN)
        await client.organization.get(OWN)
    assert fake.refreshed == ["refresh-0"]


@pytest.mark.attack
async def test_tokens_go_to_their_own_server_only(url: str, file: Path) -> None:
    await log_in(url, file)
    async with connect("http://127.0.0.1:9", file) as client:
        with pytest.raises(Unauthenticated, match="log in first"):
            await client.resume()


@pytest.mark.parametrize("content", ["", "{}", "[]", "no json", '{"url": 1, "other": 2}'])
async def test_a_file_that_is_none_means_to_log_in(url: str, tmp_path: Path, content: str) -> None:
    file = tmp_path / "login.json"
    await asyncio.to_thread(file.write_text, content)
    async with connect(url, file) as client:
        with pytest.raises(Unauthenticated):
            await client.resume()
