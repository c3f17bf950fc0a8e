"""Writes into docs/security-tests.md which tests show each row; with --check, only says whether that is up to date."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator
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
        module = ast.parse(path.read_text(encoding="utf-8"))
        for_all = tuple(_ids_of(module))
        for function in ast.walk(module):
            if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or not function.name.startswith(
                "test_"
            ):
                continue
            if ids := tuple(dict.fromkeys((*_ids(function), *for_all))):
                arguments = {argument.arg for argument in function.args.args}
                found.append(Shown(ids, path.relative_to(ROOT).as_posix(), function.name, "door" in arguments))
    return found


def _ids_of(module: ast.Module) -> Iterator[str]:
    """What all tests of a file are marked with."""
    for statement in module.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark":
            marks = statement.value.elts if isinstance(statement.value, ast.List) else [statement.value]
            yield from _marked(marks)


def _ids(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    yield from _marked(function.decorator_list)


def _marked(marks: Iterable[ast.expr]) -> Iterator[str]:
    for mark in marks:
        if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.attack":
            yield from (str(argument.value) for argument in mark.args if isinstance(argument, ast.Constant))


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
