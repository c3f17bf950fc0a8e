"""The run's identity card: facts that the task's creator vouches for, signed by the node, checked by others."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from tests.node.fake_runtime import FakeRuntime, forever
from tests.node.site import IMAGE, NAMES, NODE, OTHER, RESEARCHER, Container, SiteUnderTest
from vantage6.api.v1.algorithm_pb2 import CheckCardRequest, CreateSubtaskRequest, GetRunRequest, Run
from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.common.card import read_card, sign_card
from vantage6.common.envelope import Binding, Purpose, seal
from vantage6.common.facts import TaskFacts
from vantage6.node import states

FACTS = TaskFacts(3, IMAGE)


def asked(site: SiteUnderTest, facts: TaskFacts = FACTS, **more: Any) -> Assignment:
    """A run whose creator's client made the task's key of these facts."""
    key = facts.new_key()
    binding = Binding(7, key, RESEARCHER, NODE, Purpose.INPUT)
    data = seal(b"json.{}", to=site.keys[NODE].public, by=site.keys[RESEARCHER], binding=binding)
    return site.assignment(data, sealed=False, task_key=key, **more)


async def contained(site: SiteUnderTest, run: Assignment) -> Container:
    site.runtime = FakeRuntime(forever)
    connection = await site.online()
    connection.send(assignment=run)
    await site.server.report(states.RUNNING)
    return Container(site.runtime.started[0].run_dir)


@pytest.fixture
async def container(site: SiteUnderTest) -> AsyncIterator[Container]:
    async with await contained(site, asked(site)) as made:
        yield made


@pytest.mark.attack
@pytest.mark.parametrize(
    "lie", [{"participants": 30}, {"participants": 2}, {"image": "example/other:1"}, {"databases": ["default"]}]
)
async def test_a_server_that_changes_the_task(site: SiteUnderTest, lie: dict[str, Any]) -> None:
    site.settings["databases"] = {"default": {"uri": "sqlite:///nothing", "type": "other"}}
    connection = await site.online()
    connection.send(assignment=asked(site, **lie))
    assert (await site.server.report(states.REFUSED)).reason == "TASK_CHANGED"
    assert not site.runtime.started


async def test_a_task_that_nobody_vouches_for(site: SiteUnderTest) -> None:
    async with await contained(site, site.assignment()) as container:
        assert not (await container.stub.GetRun(GetRunRequest(), metadata=container.metadata)).vouched
    await site.stop()


async def test_a_site_may_insist(site: SiteUnderTest) -> None:
    site.settings["policy"] = {"allowed_images": [".*"], "vouched_facts": True}
    connection = await site.online()
    connection.send(assignment=site.assignment())
    assert (await site.server.report(states.REFUSED)).reason == "NOT_VOUCHED"
    connection.send(assignment=asked(site, result_id=13))
    await site.server.report(states.COMPLETED)


async def test_the_card_is_signed_for_others(site: SiteUnderTest, container: Container) -> None:
    run = await container.stub.GetRun(GetRunRequest(), metadata=container.metadata)
    assert run.vouched
    card = read_card(run.signed, site.keys[NODE].public, NODE)
    assert (card.participants, card.run_id, card.collaboration_id, card.image) == (3, 3, 7, IMAGE)
    assert card.image_digest == "sha256:" + "0" * 64


async def test_subtasks_are_vouched_for_too(site: SiteUnderTest, container: Container) -> None:
    request = CreateSubtaskRequest(input=b"json.1", organization_ids=[NODE, OTHER], databases=["a"])
    subtask = await container.stub.CreateSubtask(request, metadata=container.metadata)
    assert TaskFacts(2, IMAGE, ("a",)).agree(subtask.key) is True


async def check(container: Container, organization_id: int, card: bytes) -> Run:
    request = CheckCardRequest(organization_id=organization_id, card=card)
    return (await container.stub.CheckCard(request, metadata=container.metadata)).run


async def test_the_cards_of_others(site: SiteUnderTest, container: Container) -> None:
    theirs = Run(organization_id=OTHER, collaboration_id=7, run_id=3, participants=2, image_digest="sha256:1")
    good = sign_card(theirs, site.keys[OTHER])
    assert await check(container, OTHER, good) == theirs
    own = (await container.stub.GetRun(GetRunRequest(), metadata=container.metadata)).signed
    assert (await check(container, NODE, own)).result_id == 12


@pytest.mark.attack
async def test_cards_of_others_that_do_not_hold(site: SiteUnderTest, container: Container) -> None:
    theirs = Run(organization_id=OTHER, collaboration_id=7, run_id=3)
    for wrong in ({"run_id": 4}, {"collaboration_id": 8}, {"organization_id": NODE}):
        card = Run()
        card.CopyFrom(theirs)
        for name, value in wrong.items():
            setattr(card, name, value)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await check(container, OTHER, sign_card(card, site.keys[OTHER]))
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    with pytest.raises(grpc.aio.AioRpcError, match="not signed"):
        await check(container, OTHER, sign_card(theirs, site.keys[RESEARCHER]))
    with pytest.raises(grpc.aio.AioRpcError, match="not in this collaboration"):
        await check(container, max(NAMES) + 1, sign_card(theirs, site.keys[OTHER]))
