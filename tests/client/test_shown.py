"""How values and lists show where a person looks at them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.client.fakes import NORTH, SOUTH, Fake
from vantage6.client import AsyncClient, Client, Organization, ResultState, TaskResult
from vantage6.client._shown import AT_ONCE, Rows

EVIL = "<script>alert('x')</script>"


@pytest.mark.row("M26")
def test_a_value_is_a_table_of_its_fields() -> None:
    html = TaskResult(1, "North", ResultState.COMPLETED, "", "", {"mean": 4})._repr_html_()
    assert "<th>organization_name</th><td>North</td>" in html
    assert "<td>completed</td>" in html
    assert "public_key" not in Organization(1, "North", public_key=b"PEM")._repr_html_()


@pytest.mark.attack
def test_a_servers_words_are_no_program_in_a_notebook() -> None:
    shown = [Organization(1, EVIL)._repr_html_(), Rows([Organization(1, EVIL)])._repr_html_()]
    assert not any("<script>" in each for each in shown)


async def test_a_list_shows_as_a_table_and_stays_a_list(url: str, fake: Fake, tmp_path: Path) -> None:
    def work() -> None:
        with Client(url, known_organizations=tmp_path / "known.json") as client:
            client.authenticate("alice", "secret")
            found = client.organization.list()
            for _ in range(2):
                html = found._repr_html_()
                assert html.count("<tr>") == 4
                assert "Hospital South" in html
            assert next(found).name == "University"
            assert "University" not in found._repr_html_()
            assert [each.id for each in found] == [NORTH, SOUTH]
            assert found._repr_html_() == "<p>nothing</p>"

    await asyncio.to_thread(work)


def test_a_long_list_is_shown_in_part() -> None:
    rows = Rows(Organization(each, "x") for each in range(AT_ONCE * 3))
    assert rows._repr_html_().endswith("<p>and more</p>")
    assert len(list(rows)) == AT_ONCE * 3


def test_ending_a_list_early_ends_its_call() -> None:
    ended = []

    def call() -> Iterator[Organization]:
        try:
            yield Organization(1, "x")
            yield Organization(2, "x")
        finally:
            ended.append(True)

    rows = Rows(call())
    next(rows)
    rows.close()
    assert ended == [True]


async def test_async_lists_are_iterated(client: AsyncClient) -> None:
    assert [each.id async for each in client.organization.list()] == [1, 2, 3]
