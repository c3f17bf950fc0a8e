"""Which versions of the contract understand one another: the same major number, minor ones at most one apart.

So servers and nodes can be updated one after the other, in any order, one minor version at a time.
"""

from __future__ import annotations

import re

from vantage6.common.errors import ContractVersionUnknown

VERSION = "1.0"
"""Of the contract that this release speaks (protos/)."""
_FORM = re.compile(r"(\d{1,6})\.(\d{1,6})")


def check_version(theirs: str, *, who: str, own: str = VERSION) -> None:
    """Raises ContractVersionUnknown, which says what to do, unless `theirs` and `own` fit; `who` speaks theirs."""
    ours, other = _FORM.fullmatch(own), _FORM.fullmatch(theirs)
    if ours and other and ours[1] == other[1] and abs(int(ours[2]) - int(other[2])) <= 1:
        return
    older = bool(ours and other and (int(other[1]), int(other[2])) < (int(ours[1]), int(ours[2])))
    what = f"update the {who}" if older or not other else f"update this side, or install an older {who}"
    raise ContractVersionUnknown(
        f"this side speaks version {own} of the contract, the {who} {theirs[:32] or 'none'}: versions may be one minor "
        f"number apart; {what}",
        spoken=own,
    )
