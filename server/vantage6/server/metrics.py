"""What the server counts, for Prometheus; docs/monitoring.md describes each. No label names a person or a site."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from vantage6.common.monitoring import reason_label

REGISTRY = CollectorRegistry()

_FAST = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, float("inf"))
_SLOW = (0.1, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800, 3600, 4 * 3600, 24 * 3600, float("inf"))

NODES = Gauge("vantage6_nodes_connected", "Nodes that are connected to this process.", registry=REGISTRY)
OPEN = Gauge("vantage6_results_open", "Results that are not final, of the whole database.", ["state"],
             registry=REGISTRY)  # fmt: skip
ENDED = Counter("vantage6_results_ended", "Results that became final.", ["state", "reason"], registry=REGISTRY)
QUEUED = Histogram("vantage6_queue_seconds", "From a task's creation to a result's assignment.",
                   buckets=_SLOW, registry=REGISTRY)  # fmt: skip
DELIVERED = Histogram("vantage6_delivery_seconds", "From an assignment to the node's word that it holds it.",
                      buckets=_FAST, registry=REGISTRY)  # fmt: skip
RAN = Histogram("vantage6_run_seconds", "From start to end of a run, by the node's clock.",
                buckets=_SLOW, registry=REGISTRY)  # fmt: skip
BYTES = Counter("vantage6_content_bytes", "Bytes of inputs, outputs and logs.", ["direction"], registry=REGISTRY)
CALLS = Counter("vantage6_calls", "Calls that have ended.", ["method", "status"], registry=REGISTRY)
CALL = Histogram("vantage6_call_seconds", "How long calls took; streams are left out.", ["method"],
                 buckets=_FAST, registry=REGISTRY)  # fmt: skip

_OPEN_STATES = ("PENDING", "ASSIGNED", "PULLING", "RUNNING")


def connected(count: Callable[[], int]) -> None:
    """Who is asked for the number of nodes."""
    NODES.set_function(count)


def queue(counts: Mapping[str, int]) -> None:
    """How many results are in which open state."""
    for state in _OPEN_STATES:
        OPEN.labels(state).set(counts.get(state, 0))


def assigned(created: dt.datetime, at: dt.datetime) -> None:
    QUEUED.observe(max(0.0, (at - created).total_seconds()))


def delivered(assigned_at: dt.datetime | None, at: dt.datetime) -> None:
    if assigned_at is not None:
        DELIVERED.observe(max(0.0, (at - assigned_at).total_seconds()))


def ended(state: str, reason: str, started: dt.datetime | None, finished: dt.datetime | None) -> None:
    ENDED.labels(state, reason_label(reason)).inc()
    if started is not None and finished is not None:
        RAN.observe(max(0.0, (finished - started).total_seconds()))


def received(size: int) -> None:
    BYTES.labels("in").inc(size)


def sent(size: int) -> None:
    BYTES.labels("out").inc(size)


def called(method: str, status: str, seconds: float | None) -> None:
    """`seconds` is None for a stream: it lasts as long as its node or its listener stays."""
    name = method.removeprefix("/vantage6.api.v1.").strip("/")
    CALLS.labels(name, status).inc()
    if seconds is not None:
        CALL.labels(name).observe(seconds)
