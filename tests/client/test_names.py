"""What scripts and algorithms of others name: whoever changes one of these breaks somebody's program."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import vantage6.algorithm
import vantage6.client
from tests.client.fakes import COLLABORATION, NORTH
from vantage6.client import AsyncClient, Rule, errors
from vantage6.client._payloads import content_of, place

FIELDS = {
    "Collaboration": "id name encrypted organization_ids",
    "LogIn": "id ip current create_time last_used_time",
    "LogLine": "organization_id organization_name result_id text",
    "Node": "id name online organization_id collaboration_id version last_seen api_key",
    "Organization": "id name domain address1 address2 zipcode country public_key collaboration_ids",
    "Result": "id task_id organization_id organization_name state reason message node_online start_time finish_time",
    "Role": "id name description rules organization_id",
    "Rule": "resource operation scope",
    "SecondFactor": "secret uri",
    "Task": "id name image state complete collaboration_id run_id description databases initiator_id parent_id user_id"
    " create_time finish_time deadline retries min_results priority fail_fast retry_failures key",
    "TaskResult": "organization_id organization_name state reason message value file",
    "User": "id username email firstname lastname roles organization_id",
    "WhoAmI": "user_id username organization_id organization_name",
}
CALLS = {
    "authenticate": "username password mfa_code",
    "get_results": "id state include_task task_id node_id",
    "post_task": "name image collaboration_id input_ description organization_ids data_format database",
    "request": "endpoint json method params",
    "results": "task folder",
    "setup_encryption": "path passphrase",
    "wait": "task progress timeout",
}
TASK = (
    "collaboration organizations image input name description databases deadline retries min_results priority"
    " fail_fast retry_failures"
)
ERRORS = (
    "AlreadyExists Cancelled DataLoss DeadlineExceeded EnvelopeBroken FailedPrecondition Internal InvalidArgument"
    " KeyChanged KeyMismatch KeyMissing NotFound NotSealed OutOfRange PermissionDenied ResourceExhausted"
    " SecondFactorRequired SerializationError Throttled Unauthenticated Unavailable Unimplemented Vantage6Error"
)
ALGORITHM = (
    "AlgorithmClient AlgorithmError Database InputError Participant Run SiteResult Subtask SubtaskError"
    " algorithm_client connection data metadata remote"
)


@pytest.mark.row("M26")
def test_fields_of_what_the_client_gives() -> None:
    known = {name: getattr(vantage6.client, name) for name in vantage6.client.__all__}
    found = {name: kind for name, kind in known.items() if dataclasses.is_dataclass(kind)}
    assert {name: " ".join(each.name for each in dataclasses.fields(kind)) for name, kind in found.items()} == FIELDS


@pytest.mark.row("M26")
def test_parameters_of_the_calls() -> None:
    found = {name: list(inspect.signature(getattr(AsyncClient, name)).parameters)[1:] for name in CALLS}
    assert found == {name: names.split() for name, names in CALLS.items()}


async def test_parameters_of_a_task(stranger: AsyncClient) -> None:
    assert list(inspect.signature(stranger.task.create).parameters) == TASK.split()


def test_names_of_errors_and_tools() -> None:
    assert sorted(errors.__all__) == ERRORS.split()
    assert all(issubclass(getattr(errors, name), errors.Vantage6Error) for name in errors.__all__)
    assert sorted(vantage6.algorithm.__all__, key=lambda name: (name.islower(), name)) == ALGORITHM.split()
    assert all(getattr(vantage6.algorithm, name) for name in vantage6.algorithm.__all__)
    parts = "organization_id organization_name state reason message output"
    assert " ".join(each.name for each in dataclasses.fields(vantage6.algorithm.SiteResult)) == parts


CREATING: dict[str, Callable[[AsyncClient], Awaitable[object]]] = {
    "organization": lambda client: client.organization.create("North"),
    "collaboration": lambda client: client.collaboration.create("study", [1]),
    "node": lambda client: client.node.create(1),
    "user": lambda client: client.user.create("bob", "b@example.org", "secret"),
    "role": lambda client: client.role.create("reader", [Rule("task", "view", "own")]),
    "payload": lambda client: place(client._session, COLLABORATION, content_of("x" * 3_000_000), 1),
}


class Asked(Exception):
    """Instead of an answer."""


@pytest.mark.row("M27")
@pytest.mark.parametrize("noun", CREATING)
async def test_what_is_created_has_a_key_with_which_it_is_created_once(
    noun: str, stranger: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that is repeated because its answer was lost makes nothing twice."""
    keys: list[str] = []

    async def ask(method: object, request: Any) -> None:
        keys.append(request.idempotency_key)
        raise Asked

    monkeypatch.setattr(stranger._session, "ask", ask)
    for _ in range(2):
        with pytest.raises(Asked):
            await CREATING[noun](stranger)
    assert len(keys[0]) >= 32
    assert keys[0] != keys[1]


@pytest.mark.row("M27")
async def test_a_task_has_one_too(client: AsyncClient, fake: Any) -> None:
    for _ in range(2):
        await client.task.create(COLLABORATION, [NORTH], "image", 1)
    first, second = (each.key for each in fake.requests)
    assert first
    assert first != second
