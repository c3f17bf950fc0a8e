"""The brake on guessing holds over all server processes that share a database."""

from __future__ import annotations

import pytest

from vantage6.common.errors import Throttled
from vantage6.server.domain.bus import Attempt, LocalBus
from vantage6.server.domain.throttle import Throttle

from .test_replicas import Heard, Pair, pair  # noqa: F401 - pair is a fixture


def attempts(heard: Heard) -> list[Attempt]:
    return [signal for signal in heard if isinstance(signal, Attempt)]


async def heard_all(heard: Heard, number: int) -> None:
    await heard.until(lambda _: len(attempts(heard)) == number)


@pytest.mark.postgres
@pytest.mark.attack("CVE-2025-43863")
async def test_guessing_at_many_replicas_is_guessing_at_one(pair: Pair) -> None:  # noqa: F811
    one, other = (Throttle(bus=world.bus, name="log-in") for world in (pair.a, pair.b))
    for _ in range(5):
        one.failed("user:ada", "10.0.0.1")
    await heard_all(pair.heard_by_b, 5)
    with pytest.raises(Throttled):
        other.check("user:ada", "10.0.0.2")
    other.check("user:ben", "10.0.0.2")
    # What goes over the database names nobody: somebody may have typed a password for a name.
    assert not any("ada" in str(attempt) or "10.0.0.1" in str(attempt) for attempt in attempts(pair.heard_by_b))
    # By address: thirty, wherever they were made.
    for number in range(25):
        (one if number % 2 else other).failed("", "10.0.0.1")
    await heard_all(pair.heard_by_b, 30)
    await heard_all(pair.heard_by_a, 30)
    for throttle in (one, other):
        with pytest.raises(Throttled):
            throttle.check("", "10.0.0.1")
    other.succeeded("user:ada", "10.0.0.2")
    await heard_all(pair.heard_by_a, 31)
    one.check("user:ada", "10.0.0.2")


async def test_the_throttles_of_one_process_do_not_brake_each_other() -> None:
    bus = LocalBus()
    one, other = Throttle(free=1, bus=bus, name="one"), Throttle(free=1, bus=bus, name="other")
    one.failed("user:ada", "")
    other.check("user:ada", "")
    with pytest.raises(Throttled):
        one.check("user:ada", "")
