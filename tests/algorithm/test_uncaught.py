"""Values of a site's data do not leave by what nobody catches: other kinds of exceptions, threads, `__del__`, exits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import missing
from vantage6.algorithm.mock import MockNetwork

PACKAGE = """
import asyncio, atexit, sys, threading
from vantage6.algorithm import data, remote

class Own(BaseException): ...

class Kept:
    def __del__(self):
        raise ValueError("patient 4711")

def fail():
    raise ValueError("patient 4711")

@remote
def exits():
    sys.exit("patient 4711 has it")

@remote
def cancelled():
    raise asyncio.CancelledError("patient 4711")

@remote
def own():
    raise Own("patient 4711")

@remote
def interrupted():
    raise KeyboardInterrupt("patient 4711")

@remote
def threaded():
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()

@remote
def forgotten():
    Kept()

@remote
def to_the_end():
    threading.kept = Kept()

@remote
def at_exit():
    atexit.register(fail)

@remote
def code(number: int | None):
    sys.exit(number)

@data(1)
def rows(frame):
    if len(frame) == 1:
        sys.exit("patient 4711")
    return len(frame)
"""

JAVASCRIPT = """
import { run } from "FOLDER/container.mjs";
const methods = {
  later: () => { setTimeout(() => { throw new RangeError("patient 4711"); }, 1); },
  rejected: () => { Promise.reject(new RangeError("patient 4711")); },
  text: () => { throw "patient 4711"; },
  nothing: () => { throw null; },
};
await run(methods);
"""


def started(folder: Path, *command: str, method: str, args: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    (folder / "input").write_text(f'json.{{"method": "{method}", "args": [{args}]}}')
    files = {"INPUT_FILE": str(folder / "input"), "OUTPUT_FILE": str(folder / "output")}
    environment = {**os.environ, "PYTHONPATH": str(folder), **files, **more}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    (tmp_path / "uncaught_package.py").write_text(PACKAGE)
    return tmp_path


ENTRY = (sys.executable, "-m", "vantage6.algorithm.entrypoint", "uncaught_package")


@pytest.mark.attack
@pytest.mark.parametrize(
    ("method", "code", "kind"),
    [
        ("exits", 1, "SystemExit"),
        ("cancelled", 1, "CancelledError"),
        ("own", 1, "Own"),
        ("interrupted", 1, "KeyboardInterrupt"),
        ("threaded", 0, "ValueError"),
        ("forgotten", 0, "ValueError"),
        ("to_the_end", 0, "ValueError"),
        ("at_exit", 0, "ValueError"),
    ],
)
def test_no_way_out_for_values(package: Path, method: str, code: int, kind: str) -> None:
    done = started(package, *ENTRY, method=method)
    assert "4711" not in done.stdout + done.stderr
    assert done.returncode == code
    assert f"{kind} " in done.stderr
    assert done.stderr.startswith("error > ")
    assert "(its text stays at the site)" in done.stderr


@pytest.mark.parametrize("method", ["exits", "own", "threaded"])
def test_unless_the_site_lets_them(package: Path, method: str) -> None:
    assert "patient 4711" in started(package, *ENTRY, method=method, SHARE_ERRORS="1").stderr


@pytest.mark.parametrize(("number", "code"), [("3", 3), ("null", 0), ("0", 0)])
def test_an_algorithm_may_end_by_a_code_of_its_own(package: Path, number: str, code: int) -> None:
    done = started(package, *ENTRY, method="code", args=number)
    assert (done.returncode, done.stderr) == (code, "")


@pytest.mark.attack
def test_one_site_of_a_mock_network_ends_alone(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(package))
    network = MockNetwork("uncaught_package", [pd.DataFrame({"id": range(count)}) for count in (3, 1)])
    done, failed = network.results("rows")
    assert done.value == 3
    assert (failed.state, failed.reason) == ("failed", "ALGORITHM_FAILED")
    assert "SystemExit at uncaught_package.py" in failed.message
    assert "4711" not in failed.message
    assert {each.reason for each in network.results("code", 3)} == {"ALGORITHM_FAILED"}
    assert {each.reason for each in network.results("code", 0)} == {"OUTPUT_MISSING"}
    sys.modules.pop("uncaught_package")


@pytest.mark.attack
@pytest.mark.parametrize(
    ("method", "kind"), [("later", "RangeError"), ("rejected", "RangeError"), ("text", "string"), ("nothing", "object")]
)
def test_nor_in_javascript(tmp_path: Path, method: str, kind: str) -> None:
    program = shutil.which("node")
    if program is None:
        missing("javascript", "Node.js is not installed")
    folder = Path(__file__).parents[2] / "examples/algorithms/average-js"
    if not (folder / "node_modules").is_dir():
        missing("javascript", "its packages are not there (make javascript)")
    (tmp_path / "main.mjs").write_text(JAVASCRIPT.replace("FOLDER", folder.as_posix()))
    done = started(tmp_path, program, str(tmp_path / "main.mjs"), method=method)
    assert "4711" not in done.stdout + done.stderr
    assert done.returncode == 1
    assert done.stderr == f"error > {kind} (its text stays at the site)\n"
    shared = started(tmp_path, program, str(tmp_path / "main.mjs"), method="later", SHARE_ERRORS="1")
    assert "patient 4711" in shared.stderr
