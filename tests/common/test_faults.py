"""Fault points: off unless armed, and exact about when they fail."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys

import grpc
import pytest

from vantage6.common import faults
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.errors import Internal, Unavailable, from_rpc_error

RESET = "Stream removed (RST_STREAM (Received RST_STREAM with error code 2))"


def test_a_point_that_nobody_armed_does_nothing() -> None:
    faults.point("some.point")


def test_a_range_of_passings_fails() -> None:
    seen = []
    with faults.armed("some.point=raise:2-3, other.point=full"):
        for _ in range(4):
            try:
                faults.point("some.point")
            except faults.InjectedFault:
                seen.append("failed")
            else:
                seen.append("passed")
        with pytest.raises(OSError, match="space") as caught:
            faults.point("other.point")
        faults.point("other.point")
    assert seen == ["passed", "failed", "failed", "passed"]
    assert caught.value.errno == errno.ENOSPC
    faults.point("some.point")


@pytest.mark.parametrize("text", ["some.point", "some.point=explode", "=kill", "some.point=kill:x"])
def test_what_cannot_be_read_stops_the_process_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="point=kill"):
        faults.parse(text)


def test_the_environment_arms_and_says_so() -> None:
    code = "from vantage6.common import faults; faults.point('a.b'); print('alive', flush=True); faults.point('a.b')"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"VANTAGE6_FAULTS": "a.b=kill:2"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert "faults_armed" in done.stdout + done.stderr
    assert "alive" in done.stdout


@pytest.mark.row("M27")
@pytest.mark.parametrize(("details", "kind"), [(RESET, Unavailable), ("defect", Internal)])
def test_a_reset_stream_is_a_broken_line(details: str, kind: type[Exception]) -> None:
    """A gateway resets the streams of a server that was killed; who waits goes on waiting then."""
    nothing = grpc.aio.Metadata()
    assert type(from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.INTERNAL, nothing, nothing, details))) is kind


@pytest.mark.row("M27")
async def test_the_options_of_a_caller_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC takes the first of two, so there must not be two."""
    given: list[tuple[str, int | str]] = []
    real = grpc.aio.insecure_channel

    def note(target: str, options: list[tuple[str, int | str]], **more: object) -> grpc.aio.Channel:
        given.extend(options)
        return real(target, options=options)

    monkeypatch.setattr(grpc.aio, "insecure_channel", note)
    channel = open_channel(Endpoint("http://127.0.0.1:1"), options=[("grpc.keepalive_time_ms", 7)])
    await channel.close()
    assert [value for key, value in given if key == "grpc.keepalive_time_ms"] == [7]
