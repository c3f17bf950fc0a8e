"""What an algorithm does itself so that its results tell nothing of single persons.

A site has rules of its own (its node sees every output); these let a function say no earlier, and in its own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vantage6.algorithm.errors import AlgorithmError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from vantage6.algorithm.client import AlgorithmClient

Key = TypeVar("Key")


class TooFewError(AlgorithmError):
    """Too few take part, or too few records: what would come of it could be about somebody."""


def require_participants(client: AlgorithmClient, minimum: int, *, vouched: bool = False) -> int:
    """How many organizations take part in this task, from the run's identity card; TooFewError under the minimum.

    With `vouched` the number has to be that of the task's creator, signed by its organization, and not just what the
    server says: what follows from it then holds against a dishonest server too.
    """
    run = client.run
    number = run.participants
    if vouched and not run.vouched:
        raise TooFewError("nobody but the server says how many organizations take part")
    if number < minimum:
        raise TooFewError(f"{number} organizations take part; this analysis needs at least {minimum}")
    return number


def require_records(number: int, minimum: int) -> int:
    """The number again; TooFewError under the minimum, without saying how many there are."""
    if number < minimum:
        raise TooFewError(f"this site has fewer than the {minimum} records that the analysis needs")
    return number


def suppress_small(counts: Mapping[Key, int], minimum: int) -> dict[Key, int | None]:
    """The counts, with None for every one that is less than the minimum, zero included."""
    return {key: number if number >= minimum else None for key, number in counts.items()}
