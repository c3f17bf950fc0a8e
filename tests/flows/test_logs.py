"""What runs print: for the researcher, while it is printed; ciphertext for everybody on the way."""

from __future__ import annotations

import base64

import pytest

from tests.documents import blocks
from vantage6.client import LogLine, ResultState

from .conftest import MARKER
from .network import Network

AVERAGE = "vantage6/examples/average:dev"
ABSENT = f"{MARKER}-is-no-column"
"""What a failing algorithm puts into its last words."""


@pytest.mark.row("M38", "M27")
def test_the_last_words_of_a_failing_run(network: Network, capsys: pytest.CaptureFixture[str]) -> None:
    client = network.client
    task = client.task.create(
        collaboration=network.collaboration_id, organizations=[site.organization_id for site in network.sites],
        image=AVERAGE, input={"method": "partial_average", "args": [ABSENT]}, databases=["default"],
    )  # fmt: skip
    lines = list(client.logs(task))
    states = {result.state for result in client.results(task)}
    assert states == {ResultState.FAILED}
    [page] = blocks("docs/algorithm-contract.md", "python")
    exec(page, {"client": client, "task": task})
    assert f"{lines[0].organization_name} {lines[0].text}" in capsys.readouterr().out
    for site, name in zip(network.sites, ("hospital 1", "hospital 2", "hospital 3"), strict=True):
        own = [line for line in lines if line.organization_id == site.organization_id]
        assert {line.organization_name for line in own} == {name}
        assert any(ABSENT in line.text for line in own), own
        # Each once, whether it came live or with the outcome.
        assert sorted(line.text for line in own) == sorted(line.text for line in client.result.logs(own[0].result_id))
    one = next(result for result in client.result.list(task=task.id))
    kept = list(client.result.logs(one.id))
    assert any(ABSENT in line.text for line in kept)
    assert {type(line) for line in kept} == {LogLine}
    assert {line.result_id for line in kept} == {one.id}
    _is_not_in_clear(network, ABSENT.encode())


def _is_not_in_clear(network: Network, marker: bytes) -> None:
    needles = [marker, marker.hex().encode(), *(base64.b64encode(marker[i:])[:-4] for i in range(3))]
    places = [path for path in (network.folder / "data").rglob("*") if path.is_file()]
    for path in [*places, network.server.log, network.gateway.log, *(site.node.log for site in network.sites)]:
        content = path.read_bytes()
        assert not any(needle in content for needle in needles), path
