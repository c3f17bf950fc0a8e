"""Versions of the contract: one minor number apart is understood, anything else is told what to do."""

from __future__ import annotations

import pytest

from vantage6.common.contract import VERSION, check_version
from vantage6.common.errors import ContractVersionUnknown


@pytest.mark.parametrize("theirs", ["1.2", "1.3", "1.4"])
def test_the_minor_version_before_and_after_go_on(theirs: str) -> None:
    check_version(theirs, who="node", own="1.3")


@pytest.mark.parametrize(
    ("theirs", "advice"),
    [
        ("1.1", "update the node"), ("0.3", "update the node"), ("", "update the node"), ("one", "update the node"),
        ("1.5", "install an older node"), ("2.3", "install an older node"),
    ],
)  # fmt: skip
def test_what_is_unknown_is_refused_with_what_to_do(theirs: str, advice: str) -> None:
    with pytest.raises(ContractVersionUnknown, match=advice) as raised:
        check_version(theirs, who="node", own="1.3")
    assert "1.3" in raised.value.message
    assert raised.value.metadata["spoken"] == "1.3"


def test_this_release_understands_itself() -> None:
    check_version(VERSION, who="server")
