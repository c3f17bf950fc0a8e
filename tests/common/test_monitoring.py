"""The page for those who watch: what it answers, and what others cannot do to it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from prometheus_client import CollectorRegistry, Gauge

from vantage6.common import monitoring
from vantage6.common.background import AddressTaken
from vantage6.common.monitoring import VARIABLE, Watched, monitored, reason_label


async def ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


def watched(why: str = "") -> Watched:
    registry = CollectorRegistry()
    asked = Gauge("asked", "How often.", registry=registry)

    async def ready() -> str:
        return why

    async def refresh() -> None:
        asked.inc()

    return Watched.of(registry, ready, refresh)


async def test_gauges_are_brought_up_to_date_before_they_are_shown() -> None:
    async with monitored("127.0.0.1:0", watched()) as port:
        assert b"asked 1.0" in await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")
        assert b"asked 2.0" in await ask(port, b"GET /metrics HTTP/1.1\r\n\r\n")


async def test_not_ready_is_alive_all_the_same() -> None:
    async with monitored("127.0.0.1:0", watched("the database does not answer")) as port:
        answer = await ask(port, b"GET /health/ready HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"the database does not answer\n")
        assert (await ask(port, b"GET /health/live HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_without_an_address_nothing_is_listened_on() -> None:
    async with monitored("", watched()) as port:
        assert port == 0


async def test_a_port_that_is_taken_is_said() -> None:
    async with monitored("127.0.0.1:0", watched()) as port:
        with pytest.raises(AddressTaken, match="Change 'monitoring'"):
            async with monitored(f"127.0.0.1:{port}", watched()):
                pass


@pytest.mark.attack
@pytest.mark.parametrize(
    "request_", [b"", b"\r\n\r\n", b"GET\r\n\r\n", b"x" * 100_000, b"POST /metrics HTTP/1.1\r\n\r\n"]
)
async def test_nonsense_does_not_end_the_page(request_: bytes) -> None:
    async with monitored("127.0.0.1:0", watched()) as port:
        with contextlib.suppress(OSError):  # Cut off in the middle of it.
            assert b" 200 " not in await ask(port, request_)
        assert b" 200 " in await ask(port, b"GET /health/live HTTP/1.1\r\n\r\n")


@pytest.mark.attack
def test_a_node_cannot_fill_the_servers_memory_with_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "_reasons", set())
    assert reason_label("") == ""
    assert reason_label('evil"} 1\n') == "OTHER"
    assert reason_label("X" * 60) == "OTHER"
    assert len({reason_label(f"REASON_{number}") for number in range(1000)}) == 101
    assert reason_label("REASON_5") == "REASON_5"


async def test_the_images_health_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert monitoring.main() == 1
    async with monitored("127.0.0.1:0", watched()) as port:
        monkeypatch.setenv(VARIABLE, f"127.0.0.1:{port}")
        assert await asyncio.to_thread(monitoring.main) == 0
    assert await asyncio.to_thread(monitoring.main) == 1
