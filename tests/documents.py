"""The code blocks of all documents, for the tests that run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_BLOCK = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FOLDERS = (".", "docs", "client/r", "examples/algorithms/*")


def pages() -> list[str]:
    """Every document that somebody may follow."""
    found = (path for folder in _FOLDERS for path in ROOT.glob(f"{folder}/*.md"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def kinds(page: str) -> dict[str, int]:
    """How many blocks of which language a page has; those without one are drawings, and what programs print."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = [kind.strip() for kind, _ in _BLOCK.findall(text)]
    assert text.count("```") == 2 * len(found), f"{page}: a code block has no end"
    return {kind: found.count(kind) for kind in dict.fromkeys(found)}


def blocks(page: str, kind: str) -> list[str]:
    """The page's blocks of one language."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [code for found, code in _BLOCK.findall(text) if found.strip() == kind]
