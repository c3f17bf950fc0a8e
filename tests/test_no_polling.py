"""Nothing polls: wherever a loop of the product sleeps, it stands here with the reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("server", "node", "client", "algorithm", "common", "gateway")
REASONS = {
    "node/vantage6/node/link.py:run": "waits before it connects again",
    "node/vantage6/node/link.py:_beat": "heartbeats, which are sent, not asked for",
    "node/vantage6/node/room.py:with_room": "a full disk tells nobody when there is room",
    "node/vantage6/node/disk.py:watch": "the kernel tells nobody of a folder that grows",
    "node/vantage6/node/retry.py:reached": "waits before it asks again what was not answered",
    "node/vantage6/node/rests.py:patiently": "waits before it asks an engine again that did not answer",
    "node/vantage6/node/rests.py:while_silent": "waits before it asks an engine again that did not answer",
    "node/vantage6/node/runs.py:_recover": "waits before it asks an engine again that did not answer",
    "node/vantage6/node/payloads.py:fetch": "waits before it goes on with a broken download",
    "node/vantage6/node/payloads.py:_upload": "waits before it goes on with a broken upload",
    "node/vantage6/node/loglines.py:_send_soon": "gathers lines for a message, while there are any",
    "node/vantage6/node/proxy/results.py:stream": "waits before it watches again after a lost connection",
    "server/vantage6/server/store/notify.py:run": "waits before it connects to PostgreSQL again",
    "server/vantage6/server/domain/housekeeping.py:run": "a clock's work: what is old enough is thrown away",
    "algorithm/vantage6/algorithm/subtasks.py:__iter__": "waits before it asks its node's proxy again after a break",
    "client/vantage6/client/_payloads.py:_upload": "waits before it goes on with a broken upload",
    "client/vantage6/client/_payloads.py:download": "waits before it goes on with a broken download",
    "client/vantage6/client/_waiting.py:events": "waits before it watches again after a lost connection",
}


def naps(tree: ast.AST) -> Iterator[str]:
    """The functions in which a loop sleeps."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        loops = [node for node in ast.walk(function) if isinstance(node, ast.While | ast.For | ast.AsyncFor)]
        if any(_sleeps(inner) for loop in loops for inner in ast.walk(loop)):
            yield function.name


def _sleeps(node: ast.AST) -> bool:
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in {"sleep", "pause"}


def found() -> dict[str, str]:
    places = {}
    for part in PRODUCT:
        for path in sorted((ROOT / part / "vantage6").rglob("*.py")):
            for name in naps(ast.parse(path.read_text())):
                places[f"{path.relative_to(ROOT)}:{name}"] = path.name
    return places


@pytest.mark.row("D02")
def test_every_loop_that_sleeps_has_its_reason() -> None:
    here = set(found())
    assert here - REASONS.keys() == set(), "await an event instead, or say why there is none"
    assert REASONS.keys() - here == set(), "these do not sleep any more"


@pytest.mark.parametrize(
    ("text", "sleeps"),
    [
        ("async def f():\n while not done():\n  await asyncio.sleep(1)", True),
        ("def f():\n for _ in range(9):\n  if g(): break\n  time.sleep(0.1)", True),
        ("async def f():\n await asyncio.sleep(1)", False),
        ("async def f():\n while True:\n  await event.wait()", False),
    ],
)
def test_what_counts_as_polling(text: str, sleeps: bool) -> None:
    assert list(naps(ast.parse(text))) == (["f"] if sleeps else [])
