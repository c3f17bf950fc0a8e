"""Every example algorithm over three hospitals against the pooled data: in one process, or with `--network FILE`.

The flag is that of `pytest -p vantage6.cli.testing`; `test_pooled.py` starts a network and runs this file in it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from examples.pooled import COMPARISONS
from vantage6.algorithm.network import Network

from .conftest import Frames

BAR = 1e-8


@pytest.mark.row("M20")
@pytest.mark.parametrize("name", COMPARISONS)
def test_the_result_is_that_of_the_pooled_data(
    name: str,
    hospitals: list[Frames],
    make_network: Callable[..., Network],
    record_property: Callable[[str, object], None],
) -> None:
    package, _, compare = COMPARISONS[name]
    largest = compare(make_network(package, hospitals))
    record_property("largest_difference", largest)
    assert largest < BAR
