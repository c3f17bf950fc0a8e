"""What researchers meet: names, log-in, nouns, errors, the blocking twin."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import vantage6.client
from tests.client.fakes import COLLABORATION, NORTH, OWN, Fake
from vantage6.client import AsyncClient, Client, WhoAmI
from vantage6.common.errors import AlreadyExists, FailedPrecondition, Unauthenticated, Unavailable

NOUNS = {
    "collaboration": {"add_organization", "create", "delete", "get", "list", "remove_organization", "update"},
    "node": {"create", "delete", "get", "list", "reset_api_key", "update"},
    "organization": {"create", "delete", "get", "list", "update"},
    "result": {"get", "list", "logs"},
    "role": {"create", "delete", "get", "list", "rules", "update"},
    "second_factor": {"confirm", "create", "delete"},
    "session": {"delete", "list"},
    "task": {"cancel", "create", "delete", "get", "list", "missing"},
    "user": {"create", "delete", "get", "list", "update"},
}
CALLS = {
    "authenticate",
    "close", "create_private_key", "get_results", "log_out", "logs", "post_task", "request", "results", "resume",
    "rotate_private_key", "setup_encryption",
    "trust", "trusted", "version", "wait", "whoami",
}  # fmt: skip


def public(thing: object) -> set[str]:
    return {name for name in dir(thing) if not name.startswith("_")}


@pytest.mark.row("M26")
async def test_public_names(stranger: AsyncClient, url: str) -> None:
    """Whoever changes one of these breaks somebody's script."""
    assert vantage6.client.__all__ == [
        "AsyncClient", "Client", "Collaboration", "LogIn", "LogLine", "Node", "Organization", "Result", "ResultState",
        "Role", "Rule", "SecondFactor", "Task", "TaskResult", "TaskState", "User", "WhoAmI",
    ]  # fmt: skip
    assert set(vars(stranger)) | public(AsyncClient) >= CALLS | set(NOUNS)
    assert public(AsyncClient) == CALLS
    assert public(Client) == CALLS
    for noun, methods in NOUNS.items():
        assert public(getattr(stranger, noun)) == methods
    assert list(inspect.signature(AsyncClient).parameters) == [
        "url", "port", "path", "ca_file", "known_organizations", "login_file",
    ]  # fmt: skip
    assert inspect.signature(Client) == inspect.signature(AsyncClient)


@pytest.mark.row("M26")
async def test_the_blocking_twin_has_the_same_methods(url: str, tmp_path: Path, stranger: AsyncClient) -> None:
    def check() -> None:
        with Client(url, known_organizations=tmp_path / "known.json") as client:
            for noun, methods in NOUNS.items():
                assert public(getattr(client, noun)) == methods
                for method in methods:
                    theirs, ours = getattr(getattr(stranger, noun), method), getattr(getattr(client, noun), method)
                    assert inspect.signature(theirs) == inspect.signature(ours)
                    assert theirs.__doc__ == ours.__doc__

    await asyncio.to_thread(check)


async def test_log_in_and_whoami(stranger: AsyncClient) -> None:
    with pytest.raises(FailedPrecondition, match="authenticate"):
        _ = stranger.whoami
    assert await stranger.authenticate("alice", "secret") == WhoAmI(9, "alice", OWN, "University")
    assert stranger.whoami.organization_name == "University"
    assert await stranger.version() == "1.2.3"


async def test_a_wrong_password_is_an_error_of_its_own(stranger: AsyncClient) -> None:
    with pytest.raises(Unauthenticated, match="wrong name or password"):
        await stranger.authenticate("alice", "guess")


async def test_errors_are_those_of_the_server(client: AsyncClient) -> None:
    with pytest.raises(AlreadyExists, match="University is taken"):
        await client.organization.create("University")


async def test_an_address_where_nobody_listens(tmp_path: Path) -> None:
    async with AsyncClient("http://127.0.0.1:1", known_organizations=tmp_path / "known.json") as client:
        with pytest.raises(Unavailable):
            await client.version()


async def test_lists_are_iterators(client: AsyncClient) -> None:
    found = [each.name async for each in client.organization.list()]
    assert found == ["University", "Hospital North", "Hospital South"]


async def test_results_print_well_and_without_secrets(client: AsyncClient) -> None:
    text = repr(await client.organization.get(NORTH))
    assert "name='Hospital North'" in text
    assert "BEGIN" not in text


async def test_tokens_are_renewed_before_they_expire(
    stranger: AsyncClient, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(stranger._session, "_clock", lambda: now[0])
    fake.expires_in = 100
    await stranger.authenticate("alice", "secret")
    now[0] = 70
    await stranger.organization.get(OWN)
    assert fake.refreshed == []
    now[0] = 81
    await stranger.organization.get(OWN)
    assert fake.refreshed == ["refresh-0"]


@pytest.mark.attack
async def test_many_calls_at_once_use_a_refresh_token_once(
    stranger: AsyncClient, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(stranger._session, "_clock", lambda: now[0])
    fake.expires_in = 100
    await stranger.authenticate("alice", "secret")
    for step in (1, 2):
        now[0] += 90
        await asyncio.gather(*(stranger.organization.get(OWN) for _ in range(20)))
        assert fake.refreshed == ["refresh-0", "refresh-1"][:step]


async def test_a_call_that_is_cancelled_leaves_no_used_token(stranger: AsyncClient, fake: Fake) -> None:
    await stranger.authenticate("alice", "secret")
    fake.access.clear()
    call = asyncio.create_task(stranger.organization.get(OWN))
    await fake.refreshing.wait()
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert (await stranger.organization.get(OWN)).name == "University"
    assert fake.refreshed == ["refresh-0"]


async def test_a_token_that_the_server_forgot_is_renewed(client: AsyncClient, fake: Fake) -> None:
    fake.access.clear()
    assert [each.id async for each in client.organization.list()] == [1, 2, 3]
    fake.access.clear()
    assert (await client.organization.get(OWN)).id == OWN
    assert len(fake.refreshed) == 2


async def test_a_session_that_ended_asks_to_log_in(client: AsyncClient, fake: Fake) -> None:
    fake.access.clear()
    fake.refresh = "another"
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await client.organization.get(OWN)
    assert len(fake.refreshed) == 1


@pytest.mark.row("M26")
async def test_blocking_from_end_to_end(url: str, fake: Fake, tmp_path: Path) -> None:
    """In a thread beside a running loop: as in a notebook."""

    def work() -> list[Any]:
        client = Client(url, known_organizations=tmp_path / "known.json")
        assert client.authenticate("alice", "secret").username == "alice"
        assert [each.id for each in client.organization.list()] == [1, 2, 3]
        for first in client.organization.list():
            assert first.id == 1
            break
        fingerprint = client.create_private_key(tmp_path / "own.pem")
        assert len(fingerprint) > 30
        client.setup_encryption(tmp_path / "own.pem")
        task = client.task.create(COLLABORATION, [NORTH], "image", {"method": "go"})
        loop.call_soon_threadsafe(fake.complete, 1, {"n": 3})
        loop.call_soon_threadsafe(fake.finish, task.id)
        assert client.wait(task).complete
        values = [each.value for each in client.results(task)]
        client.close()
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.version()
        return values

    loop = asyncio.get_running_loop()
    assert await asyncio.to_thread(work) == [{"n": 3}]


def test_importing_is_cheap_where_it_can_be() -> None:
    code = "import sys, vantage6.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    slow = {"pandas", "pyarrow", "rich", "pydantic", "cryptography", "google.protobuf", "aiohttp", "numpy"}
    assert not slow & set(loaded)
    assert not [name for name in loaded if "_pb2" in name]
