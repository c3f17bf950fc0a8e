"""Outputs that nobody would write: each gets its final state, at once, and the node goes on (X08)."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.node.fake_runtime import FakeRuntime
from tests.node.site import SiteUnderTest
from vantage6.api.v1.delivery_pb2 import Assignment
from vantage6.node import states
from vantage6.node.disclosure import Disclosure, Released
from vantage6.node.policy import Refused
from vantage6.node.runtimes.base import Exit, RunSpec
from vantage6.node.schema import mismatch
from vantage6.node.workspace import OutputTooLarge, OutputUnsafe, Workspace

pytestmark = [pytest.mark.attack("X08"), pytest.mark.row("M54")]

RULES: list[dict[str, Any]] = [
    {"rule": "minimum_records", "minimum": 10},
    {"rule": "maximum_rows", "rows": 3},
    {"rule": "schema", "schema": {"type": "object", "properties": {"mean": {"type": "number"}}}},
]


def _socket(path: Path) -> None:
    # By a short name: the address of a socket has at most 107 bytes.
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _device(path: Path) -> None:
    try:
        os.mknod(path, 0o666 | 0o020000, os.makedev(1, 5))  # /dev/zero: it has no end.
    except PermissionError:
        pytest.skip("this user makes no devices")


def _sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(2**42)


def _link_to_another(path: Path) -> None:
    (path.parent / "other").write_text("json.1")
    os.link(path.parent / "other", path)


STRANGE: dict[str, tuple[Callable[[Path], None], str]] = {
    "nothing": (lambda _: None, "OUTPUT_UNSAFE"),
    "symbolic link": (lambda path: path.symlink_to("/etc/passwd"), "OUTPUT_UNSAFE"),
    "link to nowhere": (lambda path: path.symlink_to("nowhere"), "OUTPUT_UNSAFE"),
    "link to itself": (lambda path: path.symlink_to(path.name), "OUTPUT_UNSAFE"),
    "second name of a file": (_link_to_another, "OUTPUT_UNSAFE"),
    "pipe": (os.mkfifo, "OUTPUT_UNSAFE"),
    "folder": (lambda path: path.mkdir(), "OUTPUT_UNSAFE"),
    "socket": (_socket, "OUTPUT_UNSAFE"),
    "device": (_device, "OUTPUT_UNSAFE"),
    "holes of 4 TiB": (_sparse, "OUTPUT_TOO_LARGE"),
    "empty": (lambda path: path.touch(), "OUTPUT_MISSING"),
}


@pytest.mark.parametrize("what", STRANGE)
async def test_what_lies_in_the_outputs_place(site: SiteUnderTest, what: str) -> None:
    make, reason = STRANGE[what]

    async def algorithm(spec: RunSpec) -> Exit:
        output = spec.run_dir / "output"
        if "-12-" in spec.key:
            output.unlink()
            make(output)
        else:
            output.write_text("json.1")
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    assert (await site.server.report(states.FAILED)).reason == reason
    connection.send(assignment=site.assignment(result_id=13))
    await site.server.report(states.COMPLETED)
    await site.stop()
    assert site.node
    assert site.node.site.workspace.runs() == []


DEEP = b"json." + b"[" * 100_000 + b"]" * 100_000
CONTENTS = {
    "no format": b"hello", "unknown format": b"pickle.\x80\x04]", "cut short": b'json.{"mean": 1',
    "no UTF-8": b"json.\xff\xfe",
    "deep": DEEP, "deep objects": b"json." + b'{"mean":' * 50_000 + b"1" + b"}" * 50_000,
    "arrow without a table": b"arrow.ARROW1\0\0",
    "a lone surrogate": b'json."\\ud800"', "1e400": b'json.{"mean": 1e400}', "NaN": b'json.{"mean": NaN}',
    "a number of a million digits": b'json.{"mean": ' + b"9" * 1_000_000 + b"}",
    "twice the same name": b'json.{"mean": 1, "mean": 2}',
    "only a dot": b".", "only a prefix": b"json.", "NULs": b"\0" * 5000,
}  # fmt: skip


@pytest.mark.parametrize("what", CONTENTS)
async def test_contents(site: SiteUnderTest, what: str) -> None:
    """Without rules they are the researcher's to read, as they are. With rules they are judged or kept, and final."""

    async def algorithm(spec: RunSpec) -> Exit:
        (spec.run_dir / "output").write_bytes(CONTENTS[what])
        return Exit(0)

    site.runtime = FakeRuntime(algorithm)
    connection = await site.online()
    connection.send(assignment=site.assignment())
    assert site.opened(await site.server.report(states.COMPLETED)) == CONTENTS[what]
    await site.stop()
    site.settings["policy"] = {"allowed_images": [".*"], "disclosure": RULES}
    connection = await site.online()
    connection.send(assignment=site.assignment(result_id=13))
    async with asyncio.timeout(20):
        while (report := await site.server.reports.get()).state not in states.FINAL or report.result_id != 13:
            pass
    assert report.state in {states.REFUSED, states.COMPLETED}
    if report.state == states.REFUSED:
        assert report.reason in {"OUTPUT_UNREADABLE", "SCHEMA", "DISCLOSURE_FAILED", "MAXIMUM_ROWS"}
    else:
        assert what in {"NaN", "1e400", "twice the same name"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["n", "mean", "x", "count"]), inner),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(JSON, st.binary(max_size=60)))
def test_rules_judge_or_refuse_anything(value: object) -> None:
    """Whatever leaves with a rule of the schema fits it; no other error than a refusal comes of judging."""
    data = value if isinstance(value, bytes) else b"json." + json.dumps(value).encode()
    for rule in RULES:
        try:
            Disclosure([rule]).check(Released(Assignment(), data))
        except Refused:
            continue
        if rule["rule"] == "schema":
            assert not mismatch(Released(Assignment(), data).value, rule["schema"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300), st.integers(0, 300))
def test_sizes(tmp_path_factory: pytest.TempPathFactory, data: bytes, limit: int) -> None:
    workspace = Workspace(tmp_path_factory.getbasetemp() / "sizes", "n")
    files = workspace.prepare(1, 1, b"", "", {}, run_id=1)
    files.output_path.write_bytes(data)
    if len(data) > limit:
        with pytest.raises(OutputTooLarge):
            workspace.open_output(files, limit)
        return
    with workspace.open_output(files, limit) as stream:
        assert stream.read() == data
    files.output_path.unlink()
    with pytest.raises(OutputUnsafe):
        workspace.open_output(files, limit)
