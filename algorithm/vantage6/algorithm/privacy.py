"""What an algorithm does itself so that its results tell nothing of single persons.

A site has rules of its own (its node sees every output); these let a function say no earlier, and in its own words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from vantage6.algorithm.errors import AlgorithmError

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from vantage6.algorithm.client import AlgorithmClient

Key = TypeVar("Key", bound="Hashable")
Row = TypeVar("Row", bound="Hashable")
Column = TypeVar("Column", bound="Hashable")


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


def suppress_table(table: Mapping[Row, Mapping[Column, int]], minimum: int) -> dict[Row, dict[Column, int | None]]:
    """A table of counts, safe to be shown with its totals: no row or column has exactly one cell that is left out.

    Such a cell could be computed from the total, so another one of its line is left out with it, until no single one
    is left. (Who knows more than the totals may still narrow cells down.)
    """
    kept: dict[Row, dict[Column, int | None]] = {row: suppress_small(cells, minimum) for row, cells in table.items()}
    columns = list(dict.fromkeys(column for cells in table.values() for column in cells))

    def left_out(row: Row | None = None, column: Column | None = None) -> int:
        return sum(
            number is None
            for each, cells in kept.items()
            for name, number in cells.items()
            if (each == row if column is None else name == column)
        )

    def also(line: list[tuple[Row, Column]], *, across: bool) -> bool:
        shown = [(row, column) for row, column in line if kept[row][column] is not None]
        if not shown or len(shown) != len(line) - 1:
            return False

        def cost(cell: tuple[Row, Column]) -> tuple[bool, int]:
            """A cell whose other line has a gap already makes no new one."""
            other = left_out(column=cell[1]) if across else left_out(row=cell[0])
            return not other, table[cell[0]][cell[1]]

        row, column = min(shown, key=cost)
        kept[row][column] = None
        return True

    rows = [[(row, column) for column in cells] for row, cells in table.items()]
    downs = [[(row, column) for row, cells in table.items() if column in cells] for column in columns]
    while any([*(also(line, across=True) for line in rows), *(also(line, across=False) for line in downs)]):
        pass
    return kept


def round_to(value: float, base: float) -> float:
    """The nearest multiple of `base`: counts in fives, days in weeks, so that no exact value leaves the site."""
    if base <= 0:
        raise ValueError("base must be more than 0")
    return round(value / base) * base
