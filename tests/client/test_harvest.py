"""Results are fetched many at a time, and each is held to the same as if it came alone."""

from __future__ import annotations

import pytest

from tests.client.fakes import NORTH, SOUTH, Fake
from tests.client.test_tasks import create
from vantage6.api.v1 import event_pb2, result_pb2
from vantage6.client import AsyncClient, _harvest
from vantage6.common.errors import EnvelopeBroken, KeyChanged, NotFound
from vantage6.common.keys import KeyPair


async def test_many_results_take_few_calls(client: AsyncClient, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_harvest, "AT_ONCE", 3)
    task = await create(client)
    for number in range(3, 9):
        fake.results[number] = result_pb2.Result(
            id=number, task_id=task.id, organization_id=NORTH, state=result_pb2.RESULT_STATE_PENDING
        )
        fake.results[number].organization_name = "Hospital North"
    for number in range(1, 9):
        fake.complete(number, number)
    fake.happen(task=event_pb2.TaskEvent(task_id=task.id, state=3, complete=True, results=8))  # type: ignore[arg-type]
    fake.looked_up.clear()
    assert [each.value async for each in client.results(task)] == list(range(1, 9))
    assert fake.looked_up == []
    assert [number for each in fake.lists for number in each.ids] == list(range(1, 9))
    assert all(len(each.ids) <= 3 for each in fake.lists)
    assert len(fake.lists) <= 5
    assert all(each.include_content and list(each.content_kinds) == ["output"] for each in fake.lists)


async def test_those_before_a_broken_one_are_handed_out(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.complete(1, "good")
    fake.complete(2, "bad", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    fake.finish(task.id)
    results = client.results(task)
    assert (await anext(results)).value == "good"
    with pytest.raises(EnvelopeBroken):
        await anext(results)


async def test_a_key_that_was_replaced_meanwhile(client: AsyncClient, fake: Fake) -> None:
    """The client remembers keys from creating the task; it asks again before it calls an output forged."""
    task = await create(client)
    new = KeyPair.generate()
    fake.sites[SOUTH] = new
    fake.organizations[SOUTH].public_key = new.public.to_pem()
    fake.complete(2, "with the new key")
    fake.complete(1, "as before")
    fake.finish(task.id)
    with pytest.raises(KeyChanged):
        _ = [each async for each in client.results(task)]
    await client.trust(SOUTH, new.public.fingerprint)
    assert {each.value async for each in client.results(task)} == {"with the new key", "as before"}


@pytest.mark.attack
async def test_a_result_that_is_told_of_and_not_given(client: AsyncClient, fake: Fake) -> None:
    task = await create(client)
    fake.complete(1, 1)
    fake.happen(result=event_pb2.ResultEvent(result_id=99, task_id=task.id, state=5))  # type: ignore[arg-type]
    fake.finish(task.id)
    with pytest.raises(NotFound, match="result 99"):
        _ = [each async for each in client.results(task)]
