"""Every reason that a run can end with here stands in the table of docs/algorithm-contract.md."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vantage6.common.errors import Vantage6Error
from vantage6.node import outcome
from vantage6.node.app import Node  # All that a run can meet is imported by it.
from vantage6.node.runtimes import docker, sandbox

ROOT = Path(__file__).resolve().parents[2]
NODE = ROOT / "node" / "vantage6" / "node"
ELSEWHERE = {"admin", "proxy"}
"""Folders whose errors end no run: those of commands, and the answers to an algorithm's calls."""
AT_START = {"ConfigError", "RuntimeUnknown", "EncryptionRequired", "KeyMismatch", "AuditBroken", "AuditMissing"}
"""What stops the node before any run."""
NO_END = {"PermissionDenied", "Unavailable"}
"""Answers to an algorithm's call, and the link's own."""


def _known() -> dict[str, str]:
    found, open_ = {}, [Vantage6Error]
    while open_:
        each = open_.pop()
        found[each.__name__] = each.reason
        open_ += each.__subclasses__()
    return found


def _reasons(tree: ast.AST, known: dict[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "id", "")
            said = [*node.args[:1]] if name == "Refused" else [*node.args[1:2]] if name == "Outcome" else []
            said += [each.value for each in node.keywords if each.arg == "reason" and name in {"Report", "Outcome"}]
            yield from (str(each.value) for each in said if isinstance(each, ast.Constant))
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            name = getattr(node.exc.func, "id", "")
            if name in known and name not in AT_START | NO_END | {"Refused"}:
                yield known[name]


def test_the_table_has_every_reason() -> None:
    assert all((Node, docker, sandbox))
    known = _known()
    given = {each.reason for each in outcome._REFUSALS} | {"ENVELOPE_BROKEN", "OUTPUT_NOT_STORED"}
    for path in NODE.rglob("*.py"):
        if path.relative_to(NODE).parts[0] not in ELSEWHERE:
            given |= set(_reasons(ast.parse(path.read_text()), known))
    assert {"RUN_REFUSED", "NODE_ERROR", "IMAGE_NOT_ALLOWED", "DATABASE_UNREADABLE", "NODE_RESTARTED"} <= given
    page = (ROOT / "docs" / "algorithm-contract.md").read_text().split("## How it ends", 1)[1]
    rows = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    assert given - set(re.findall(r"`([A-Z_]+)`", rows)) == set()
