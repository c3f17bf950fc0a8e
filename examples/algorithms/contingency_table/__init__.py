"""Federated contingency table: two columns against each other, small cells suppressed at the site.

The researcher names the categories, so that no site tells which rare ones it has. A site leaves out every cell with
fewer than five records, and further ones until none can be computed from a total. Where one site leaves a cell out,
the pooled cell is unknown too, and is given as "at least".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict, cast

from vantage6.algorithm import InputError, algorithm_client, data
from vantage6.algorithm.privacy import suppress_table

if TYPE_CHECKING:
    import pandas as pd

    from vantage6.algorithm import AlgorithmClient

MINIMUM = 5
"""A cell with fewer records does not leave its site, and zero is one of them."""

Cells = dict[str, dict[str, int | None]]


class Table(TypedDict):
    """All sites together; None is a cell that some site left out."""

    table: Cells
    at_least: dict[str, dict[str, int]]
    complete: bool


@data(1)
def partial_crosstab(frame: pd.DataFrame, row: str, column: str, rows: list[str], columns: list[str]) -> Cells:
    """The counts here, safe to be shown. Categories are compared as text; records with others are left out."""
    missing = [each for each in (row, column) if each not in frame]
    if missing:
        raise InputError(f"there is no column named {', '.join(missing)} here")
    known = frame[[row, column]].dropna()
    pairs = list(zip(_texts(known[row]), _texts(known[column]), strict=True))
    counts = {each: {other: pairs.count((each, other)) for other in columns} for each in rows}
    return suppress_table(counts, MINIMUM)


def _texts(values: pd.Series[Any]) -> list[str]:
    """1.0 is 1: a column of whole numbers with gaps is read as one of floats."""
    return [str(int(each)) if isinstance(each, float) and each.is_integer() else str(each) for each in values.tolist()]


@algorithm_client
def crosstab(
    client: AlgorithmClient,
    row: str,
    column: str,
    rows: list[str],
    columns: list[str],
    organizations: list[int] | None = None,
) -> Table:
    """The table over the organizations (all, unless told which)."""
    if not rows or not columns or len(set(rows)) < len(rows) or len(set(columns)) < len(columns):
        raise InputError("rows and columns: name their categories, each once")
    subtask = client.subtask("partial_crosstab", row, column, rows, columns, organizations=organizations)
    parts = [cast("Cells", answer.value) for answer in subtask.wait()]
    known = {each: {other: [part[each][other] for part in parts] for other in columns} for each in rows}
    at_least = {
        each: {other: sum(filter(None, cell)) for other, cell in cells.items()} for each, cells in known.items()
    }
    table: Cells = {
        each: {other: None if None in cell else at_least[each][other] for other, cell in cells.items()}
        for each, cells in known.items()
    }
    complete = not any(cell is None for cells in table.values() for cell in cells.values())
    return Table(table=table, at_least=at_least, complete=complete)
