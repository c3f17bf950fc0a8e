"""Runtimes by name, and the one that runs nothing."""

from __future__ import annotations

import asyncio
from importlib import metadata
from typing import TYPE_CHECKING

import pytest

from vantage6.node.runtimes import registry
from vantage6.node.runtimes.base import Handle, RunMissing, RunSpec, Runtime, RuntimeUnavailable, RuntimeUnknown
from vantage6.node.runtimes.null import NullRuntime
from vantage6.node.runtimes.registry import make_runtime, runtime_names

if TYPE_CHECKING:
    from pathlib import Path


def test_names() -> None:
    assert {"docker", "sandbox", "null"} <= set(runtime_names())


def test_unknown_name_tells_the_known() -> None:
    with pytest.raises(RuntimeUnknown, match="docker"):
        make_runtime("podmann", {"node_name": "n"})


def test_others_by_entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    point = metadata.EntryPoint("mine", "vantage6.node.runtimes.null:from_options", registry.GROUP)
    monkeypatch.setattr(registry, "entry_points", lambda group, **_: [point] if group == registry.GROUP else [])
    assert isinstance(make_runtime("mine", {"node_name": "n"}), NullRuntime)


@pytest.mark.parametrize(
    ("name", "options"),
    [("docker", {}), ("docker", {"node_name": "n", "pull": "sometimes"}), ("sandbox", {"node_name": "n"}),
     ("null", {"node_name": "n", "output": 3})],
)  # fmt: skip
def test_bad_options(name: str, options: dict[str, object]) -> None:
    with pytest.raises(RuntimeUnknown):
        make_runtime(name, options)


async def test_no_engine() -> None:
    runtime = make_runtime("docker", {"node_name": "n", "base_url": "tcp://127.0.0.1:1"})
    with pytest.raises(RuntimeUnavailable):
        await runtime.recover()
    await runtime.close()


async def test_null(tmp_path: Path) -> None:
    runtime = make_runtime("null", {"node_name": "n", "output": b"json.1", "seconds": 60})
    assert isinstance(runtime, Runtime)
    assert (await runtime.pull("any")).startswith("sha256:")
    spec = RunSpec("k", "any", tmp_path)
    handle = await runtime.start(spec)
    assert await runtime.start(spec) == handle
    waiting = asyncio.ensure_future(runtime.wait(handle))
    await runtime.stop(handle, 1)
    assert (await waiting).code == 143
    assert (tmp_path / "output").read_bytes() == b"json.1"
    assert [line async for line in runtime.logs(handle)]
    assert await runtime.recover() == {"k": handle}
    await runtime.remove(handle)
    assert await runtime.recover() == {}
    with pytest.raises(RunMissing):
        await runtime.wait(Handle("k"))
    await runtime.close()
