"""What the node counts, for Prometheus; docs/monitoring.md describes each. No label names a person."""

from __future__ import annotations

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vantage6.common.monitoring import reason_label
from vantage6.node.journal import Key

REGISTRY = CollectorRegistry()

_BUCKETS = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600, float("inf"))

CONNECTED = Gauge("vantage6_node_connected", "1 while the node is online at the server.", registry=REGISTRY)
CONNECTIONS = Counter("vantage6_node_connections", "How often it became online.", registry=REGISTRY)
RUNS = Gauge("vantage6_node_runs", "Runs that the node has taken and not ended.", registry=REGISTRY)
WAITING = Gauge("vantage6_node_reports_waiting", "Reports that the server has not accepted yet.", registry=REGISTRY)
ENDED = Counter("vantage6_node_runs_ended", "Runs that have ended.", ["state", "reason"], registry=REGISTRY)
RAN = Histogram("vantage6_node_run_seconds", "From the assignment's arrival to the run's outcome.",
                buckets=_BUCKETS, registry=REGISTRY)  # fmt: skip
DELIVERED = Histogram("vantage6_node_delivery_seconds", "From a run's outcome to the server's acceptance of it.",
                      buckets=_BUCKETS, registry=REGISTRY)  # fmt: skip
BYTES = Counter("vantage6_node_content_bytes", "Bytes of inputs and outputs, as sent.", ["direction"],
                registry=REGISTRY)  # fmt: skip

_MOST = 10_000
_begun: dict[Key, float] = {}
_outcomes: dict[Key, float] = {}


def online(*, is_online: bool) -> None:
    CONNECTED.set(int(is_online))
    if is_online:
        CONNECTIONS.inc()


def runs(count: Callable[[], int]) -> None:
    """Who is asked for the number of runs."""
    RUNS.set_function(count)


def begun(key: Key) -> None:
    _remember(_begun, key)


def ended(key: Key, state: str, reason: str) -> None:
    """A run has its outcome; taken up from an earlier life of the node, its beginning is not known."""
    ENDED.labels(state.removeprefix("RESULT_STATE_"), reason_label(reason)).inc()
    if (since := _begun.pop(key, None)) is not None:
        RAN.observe(time.monotonic() - since)
    _remember(_outcomes, key)


def accepted(key: Key) -> None:
    if (since := _outcomes.pop(key, None)) is not None:
        DELIVERED.observe(time.monotonic() - since)


def fetched(size: int) -> None:
    BYTES.labels("in").inc(size)


def stored(size: int) -> None:
    BYTES.labels("out").inc(size)


def _remember(where: dict[Key, float], key: Key) -> None:
    where[key] = time.monotonic()
    if len(where) > _MOST:  # Of runs that were cut off by a lost lease nothing more is heard.
        del where[next(iter(where))]
