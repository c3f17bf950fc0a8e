"""Writes into docs/security-tests.md which tests show each row; with --check, only says whether that is up to date."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "security-tests.md"
CELLS = 4


@dataclass(frozen=True)
class Shown:
    """A test with the ids of what it tries, and whether it goes through both doors."""

    ids: tuple[str, ...]
    file: str
    name: str
    both: bool


def marked() -> list[Shown]:
    """All tests that name what they try, in the order of files and lines."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        if "node_modules" in path.parts:
            continue
        for function in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) and (ids := tuple(_ids(function))):
                arguments = {argument.arg for argument in function.args.args}
                found.append(Shown(ids, path.relative_to(ROOT).as_posix(), function.name, "door" in arguments))
    return found


def _ids(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.attack":
            yield from (str(argument.value) for argument in decorator.args if isinstance(argument, ast.Constant))


def rows(text: str) -> dict[str, str]:
    """Id to door, of the table of server and gateway."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {line[0]: line[2] for line in lines if len(line) == CELLS and line[0] not in {"id", "---"}}


def written(text: str, tests: list[Shown]) -> str:
    """The page with its last column filled in."""
    lines = []
    for line in text.splitlines():
        cells = line.split("|")
        if len(cells) == CELLS + 2 and cells[1].strip() in rows(text):
            cells[CELLS] = f" {_cell(cells[1].strip(), tests)} "
        lines.append("|".join(cells))
    return "\n".join(lines) + "\n"


def _cell(name: str, tests: list[Shown]) -> str:
    number: dict[str, int] = {}
    for test in tests:
        if name in test.ids:
            file = test.file.removeprefix("tests/")
            number[file] = number.get(file, 0) + 1
    return ", ".join(f"`{file}` ({count})" for file, count in number.items())


def main() -> int:
    old = PAGE.read_text(encoding="utf-8")
    new = written(old, marked())
    if "--check" in sys.argv:
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
