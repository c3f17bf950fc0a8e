"""The demo: its parts, and the whole of it on the sandbox runtime, undisturbed and interrupted."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from rich.console import Console

from examples.demo import data
from examples.demo.processes import NotReadyError, Services, python
from examples.demo.report import Report

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "examples" / "demo" / "demo.py")]


def test_every_patient_is_in_one_hospital(tmp_path: Path) -> None:
    files = data.write(tmp_path)
    assert {name: len(pd.read_csv(file)) for name, file in files.items()} == data.HOSPITALS
    parts = data.split(data.patients())
    indexes = pd.concat(list(parts.values())).index
    assert sorted(indexes) == list(range(569))


def test_files_hold_exactly_the_numbers(tmp_path: Path) -> None:
    parts = data.split(data.patients())
    for name, file in data.write(tmp_path).items():
        pd.testing.assert_frame_equal(pd.read_csv(file), parts[name].reset_index(drop=True), check_exact=True)


@pytest.mark.parametrize(
    ("federated", "good"),
    [({"a": 1.0, "b": 2.0 + 1e-9}, True), ({"a": 1.0, "b": 2.1}, False), ({"a": 1.0}, False), ({}, False)],
)
def test_any_difference_is_seen(federated: dict[str, float], good: bool) -> None:
    report = Report(Console(file=io.StringIO()))
    assert (report.coefficients(federated, {"a": 1.0, "b": 2.0}) < 1e-6) is good


def test_services_start_in_order_and_all_end(tmp_path: Path) -> None:
    child = "import subprocess, sys; print('child', subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(99)']).pid); input"
    stubborn = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('port 7', flush=True); time.sleep(99)"
    with pytest.MonkeyPatch.context() as patch, _signals_restored():
        patch.setattr("examples.demo.processes.STOP_SECONDS", 1)
        with Services(tmp_path) as services:
            found = services.start({"stubborn": ([sys.executable, "-c", stubborn], r"port (\d+)")})
            assert found["stubborn"][1] == "7"
            started = services.start(
                {"parent": ([sys.executable, "-c", f"{child}; import time; time.sleep(99)"], r"child (\d+)")}
            )
            pid = int(started["parent"][1])
            os.kill(pid, 0)
        assert not _alive(pid)


def test_a_service_that_ends_gives_its_last_words(tmp_path: Path) -> None:
    with (
        _signals_restored(),
        pytest.raises(NotReadyError, match="No module named none_such"),
        Services(tmp_path) as services,
    ):
        services.start({"broken": (python("none_such"), "ready")})


@pytest.fixture(scope="module")
def _images() -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / "images.py"), "--sandbox"], check=True, capture_output=True)


@pytest.mark.envoy
@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize(
    "row", [pytest.param("all", marks=[pytest.mark.row("M44"), pytest.mark.row("M46"), pytest.mark.row("D07")])]
)
def test_the_whole_story(row: str, tmp_path: Path) -> None:
    done = subprocess.run(DEMO, env=_environment(tmp_path), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "below 1e-06" in done.stdout
    assert '"link": "/api/task/2"' in done.stdout
    assert done.stdout.rstrip().count("\n  ", done.stdout.index("go on with")) == 3
    assert _left(tmp_path) == []


@pytest.mark.envoy
@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("line", ["three hospitals", "federated logistic regression"])
def test_interrupted_it_leaves_nothing(number: signal.Signals, line: str, tmp_path: Path) -> None:
    demo = subprocess.Popen(
        DEMO, env=_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert demo.stdout is not None
    with demo.stdout:
        told = next((each for each in demo.stdout if line in each), None)
        assert told is not None
        demo.send_signal(number)
        demo.send_signal(number)  # whoever is impatient
        rest = demo.stdout.read()
    assert demo.wait(60) == 130, rest
    assert _left(tmp_path) == []


def _environment(folder: Path) -> dict[str, str]:
    """Everything that the demo writes goes to a folder of the test's, with a short name for its sockets."""
    short = Path(tempfile.gettempdir()) / f"t{os.getpid()}"
    short.unlink(missing_ok=True)
    short.symlink_to(folder)
    return {**os.environ, "RUNTIME": "sandbox", "PYTHONUNBUFFERED": "1", "TMPDIR": str(short), "HOME": str(folder)}


def _left(folder: Path) -> list[str]:
    """Files of the demo that are still there, and processes that have them in their command."""
    short = Path(tempfile.gettempdir()) / f"t{os.getpid()}"
    commands = [
        path.read_bytes().replace(b"\0", b" ").decode()
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.exists()
    ]
    running = [each for each in commands if f"{short}/" in each or f"{folder}/v6demo" in each]
    files = [str(path) for path in folder.iterdir() if path.name.startswith(("v6demo", "gateway"))]
    short.unlink(missing_ok=True)
    return running + files


def _alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


class _signals_restored:  # noqa: N801 - used like a function
    """Ending services makes the process deaf to signals: right for the demo, wrong for a test run."""

    def __enter__(self) -> None:
        self._before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def _no_output_of_shells(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("KEEP", raising=False)
    return
