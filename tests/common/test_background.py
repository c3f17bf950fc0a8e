"""Processes in the background, as real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from vantage6.common.background import AlreadyRunning, Seat, rotate, start

PROGRAM = """
import signal, sys
from pathlib import Path
from vantage6.common.background import Seat, note, tell_starter
with Seat(Path(sys.argv[1])).taken("thing") as seat:
    note(secret="s")
    if sys.argv[2] == "fail":
        tell_starter(ok=False, message="no luck", code=3)
        sys.exit(3)
    if sys.argv[2] == "silent":
        sys.exit(7)
    if sys.argv[2] == "ok":
        tell_starter(ok=True, answer=42)
    signal.pause()
"""


def program(folder: Path, how: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(PROGRAM), str(folder / "lock"), how]


def test_start_hears_that_it_works_and_stop_ends_it(tmp_path: Path) -> None:
    seat = Seat(tmp_path / "lock")
    assert seat.holder() is None
    started = start(program(tmp_path, "ok"), tmp_path / "log", 30)
    assert started.ok
    assert started.facts["answer"] == 42
    assert started.facts["secret"] == "s"
    assert "s" not in (tmp_path / "log").read_text()
    holder = seat.holder()
    assert holder
    assert holder["pid"] == started.pid
    with pytest.raises(AlreadyRunning), Seat(tmp_path / "lock").taken("thing"):
        pass
    assert seat.stop(30)
    assert seat.holder() is None
    os.waitpid(started.pid, 0)


@pytest.mark.parametrize(("how", "said"), [("fail", "no luck"), ("silent", "ended with 7")])
def test_start_hears_why_it_does_not_work(tmp_path: Path, how: str, said: str) -> None:
    started = start(program(tmp_path, how), tmp_path / "log", 30)
    assert not started.ok
    assert started.pid == 0
    assert said in started.facts["message"]


def test_start_does_not_wait_for_ever(tmp_path: Path) -> None:
    started = start(program(tmp_path, "hangs"), tmp_path / "log", 0.2)
    assert not started.ok
    assert started.pid
    os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)


def test_a_killed_process_leaves_no_seat_behind(tmp_path: Path) -> None:
    started = start(program(tmp_path, "ok"), tmp_path / "log", 30)
    os.kill(started.pid, signal.SIGKILL)
    os.waitpid(started.pid, 0)
    assert Seat(tmp_path / "lock").holder() is None


def test_large_logs_are_put_aside(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    for text in ("first", "second", "third"):
        log.write_text(text)
        rotate(log, largest=3, kept=2)
    assert not log.exists()
    assert (tmp_path / "x.log.1").read_text() == "third"
    assert (tmp_path / "x.log.2").read_text() == "second"


def test_the_process_has_a_session_of_its_own(tmp_path: Path) -> None:
    started = start(program(tmp_path, "ok"), tmp_path / "log", 30)
    session = subprocess.run(["ps", "-o", "sid=", "-p", str(started.pid)], capture_output=True, text=True, check=False)
    assert session.stdout.strip() in {"", str(started.pid)}
    assert Seat(tmp_path / "lock").stop(30)
    os.waitpid(started.pid, 0)
