"""Outputs that go through the payload store, whose disk is full or which answers with an error."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.exceptions import GenericError

from tests.chaos.small import completed, small_network
from tests.chaos.table import note
from tests.node.fake_runtime import FakeRuntime
from vantage6.node.runtimes.base import Exit, RunSpec

pytestmark = [pytest.mark.row("M27"), pytest.mark.xdist_group("chaos")]


async def large(spec: RunSpec) -> Exit:
    (spec.run_dir / "output").write_bytes(b"json." + b"1" * 200_000)
    return Exit(0)


@pytest.mark.parametrize("done", [False, True], ids=["not-done", "done"])
async def test_payload_store_answers_with_an_error(tmp_path: Path, done: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with small_network(tmp_path, runtime=FakeRuntime(large)) as small:
        failures: list[Exception] = [OSError(errno.ENOSPC, "no space left"), GenericError("the bucket is away")]
        write = obstore.put_async

        async def failing(*args: Any, **more: Any) -> Any:
            stored = await write(*args, **more) if done or not failures else None
            if failures:
                raise failures.pop()
            return stored

        monkeypatch.setattr(obstore, "put_async", failing)
        assert completed(await small.complete(await small.create()))
        await small.books_are_equal()
        assert len(failures) == (1 if done else 0), "a part that is there already is not written again"
        assert list(small.starts().values()) == [1]
    what = "having written" if done else "its disk is full, nothing written"
    note("payload store answers with an error", what, "uploaded again, run once")
