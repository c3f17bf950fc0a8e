"""The implementation in JavaScript, written from docs/envelope.md alone, and this one hold each other to the page."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import missing
from vantage6.common.chunks import CHUNK
from vantage6.common.envelope import Binding, open_sealed, seal
from vantage6.common.keys import KeyPair

FOLDER = Path(__file__).parents[1] / "js" / "envelope"
VECTORS = Path(__file__).parents[1] / "vectors" / "envelope_v1.json"

pytestmark = pytest.mark.row("M34", "M35")


def ask(**question: Any) -> dict[str, Any]:
    node = shutil.which("node")
    if node is None:
        missing("javascript", "Node.js is not installed")
    if not (FOLDER / "node_modules").is_dir():
        missing("javascript", "its packages are not there: run `make javascript`")
    done = subprocess.run(
        [node, "main.mjs"], cwd=FOLDER, input=json.dumps(question), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_it_agrees_with_the_vectors() -> None:
    answer = ask(do="vectors", path=str(VECTORS))
    assert answer["wrong"] == []
    assert answer["checked"] >= 20


@pytest.mark.parametrize("size", [0, 1, CHUNK, CHUNK + 1])
def test_it_opens_ours_and_we_open_its(sender: KeyPair, recipient: KeyPair, binding: Binding, size: int) -> None:
    content = (bytes(range(251)) * (size // 251 + 1))[:size]
    fields = {name: getattr(binding, name) for name in Binding.__slots__}
    ours = seal(content, to=recipient.public, by=sender, binding=binding)
    by, to = sender.public.to_pem().decode(), recipient.to_pem().decode()
    assert ask(do="open", envelope=ours.hex(), to=to, by=by, binding=fields)["content"] == content.hex()
    to, by = recipient.public.to_pem().decode(), sender.to_pem().decode()
    its = bytes.fromhex(ask(do="seal", content=content.hex(), to=to, by=by, binding=fields)["envelope"])
    assert open_sealed(its, to=recipient, by=sender.public, binding=binding) == content
