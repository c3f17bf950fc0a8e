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

from examples.demo import data, processes
from examples.demo.processes import NotReadyError, Services, python
from examples.demo.report import Report

ROOT = Path(__file__).parents[2]
DEMO = [sys.executable, str(ROOT / "examples" / "demo" / "demo.py")]

PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(99)"])
print("child", child.pid, flush=True)
time.sleep(99)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("port 7", flush=True)
time.sleep(99)
"""


@pytest.fixture
def _signals() -> Iterator[None]:
    """Ending services makes the process deaf to signals: right for the demo, wrong for a test run."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_every_patient_is_in_one_hospital(tmp_path: Path) -> None:
    files = data.write(tmp_path)
    assert {name: len(pd.read_csv(file)) for name, file in files.items()} == data.HOSPITALS
    parts = data.split(data.patients())
    assert sorted(pd.concat(list(parts.values())).index) == list(range(569))


def test_files_hold_the_numbers(tmp_path: Path) -> None:
    parts = data.split(data.patients())
    for name, file in data.write(tmp_path).items():
        read = pd.read_csv(file)
        pd.testing.assert_frame_equal(read, parts[name].reset_index(drop=True), rtol=1e-15)


@pytest.mark.parametrize(
    ("federated", "good"),
    [({"a": 1.0, "b": 2.0 + 1e-9}, True), ({"a": 1.0, "b": 2.1}, False), ({"a": 1.0}, False), ({}, False)],
)
def test_any_difference_is_seen(federated: dict[str, float], good: bool) -> None:
    report = Report(Console(file=io.StringIO()))
    assert (report.coefficients(federated, {"a": 1.0, "b": 2.0}) < 1e-6) is good


@pytest.mark.usefixtures("_signals")
def test_services_end_with_all_that_they_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS", 1)
    with Services(tmp_path) as services:
        found = services.start({"stubborn": ([sys.executable, "-c", STUBBORN], r"port (\d+)")})
        assert found["stubborn"][1] == "7"
        found = services.start({"parent": ([sys.executable, "-c", PARENT], r"child (\d+)")})
        child = int(found["parent"][1])
        assert _alive(child)
    assert not _alive(child)


@pytest.mark.usefixtures("_signals")
def test_a_service_that_ends_gives_its_last_words(tmp_path: Path) -> None:
    services = Services(tmp_path)
    with pytest.raises(NotReadyError, match="No module named none_such"), services:
        services.start({"broken": (python("none_such"), "ready")})


@pytest.fixture(scope="module")
def _images() -> None:
    command = [sys.executable, str(ROOT / "tools" / "images.py"), "--sandbox"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Everything that the demo writes goes to a folder of the test's, by a short name for the sake of its sockets."""
    short = Path(tempfile.mkdtemp(prefix="v6t")) / "t"
    short.symlink_to(tmp_path)
    yield {**os.environ, "RUNTIME": "sandbox", "PYTHONUNBUFFERED": "1", "TMPDIR": str(short), "KEEP": ""}
    short.unlink()
    short.parent.rmdir()


@pytest.mark.envoy
@pytest.mark.row("M44")
@pytest.mark.row("M46")
@pytest.mark.usefixtures("_images")
def test_the_whole_story(environment: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(DEMO, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "below 1e-06" in done.stdout
    assert '"link": "/api/task/2"' in done.stdout
    assert done.stdout.partition("go on with")[2].strip().count("\n") == 2
    assert _left(environment, tmp_path) == []


@pytest.mark.envoy
@pytest.mark.usefixtures("_images")
@pytest.mark.parametrize(
    ("number", "line"), [(signal.SIGTERM, "three hospitals"), (signal.SIGINT, "federated logistic regression")]
)
def test_interrupted_it_leaves_nothing(
    number: signal.Signals, line: str, environment: dict[str, str], tmp_path: Path
) -> None:
    demo = subprocess.Popen(DEMO, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert demo.stdout is not None
    with demo.stdout:
        reached = any(line in each for each in demo.stdout)
        demo.send_signal(number)
        demo.send_signal(number)  # whoever is impatient
        rest = demo.stdout.read()
    assert (demo.wait(60), reached) == (130, True), rest
    assert _left(environment, tmp_path) == []


def _left(environment: dict[str, str], folder: Path) -> list[str]:
    """Processes of the demo that still run, and its files that are still there."""
    commands = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            commands.append(path.read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it ended while we looked
            continue
    running = [each for each in commands if environment["TMPDIR"] in each]
    return running + [str(path) for path in folder.iterdir()]


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
