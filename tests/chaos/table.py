"""Collects what the suite saw, for the table in docs/chaos.md."""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTES = ROOT / "build" / "chaos"
PAGE = ROOT / "docs" / "chaos.md"
BEGIN, END = "<!-- table: made by `make chaos` -->", "<!-- end of the table -->"


def note(fault: str, point: str, outcome: str) -> None:
    """One row; a file for each, since several processes may test at once."""
    NOTES.mkdir(parents=True, exist_ok=True)
    name = "".join(char if char.isalnum() else "-" for char in f"{fault}-{point}")
    (NOTES / f"{name}.json").write_text(json.dumps([fault, point, outcome]))


def write() -> None:
    """Puts all rows into the page."""
    rows = sorted(json.loads(path.read_text()) for path in NOTES.glob("*.json"))
    table = "\n".join(["| fault | point | outcome |", "|---|---|---|", *(f"| {f} | {p} | {o} |" for f, p, o in rows)])
    before, _, rest = PAGE.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}")


if __name__ == "__main__":
    write()
