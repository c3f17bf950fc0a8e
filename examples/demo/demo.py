"""`make demo`: three hospitals fit one model without showing anybody a patient.

Starts a server, a gateway and three nodes as separate processes, lets a researcher fit a logistic regression over an
encrypted collaboration, and compares it with the same model on the pooled data. Leaves nothing behind, unless KEEP=1.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import cast

# This file is started by its path; what it imports is found from the project's folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.demo import data, engine
from examples.demo.network import IMAGE, RESEARCHER, Network
from examples.demo.processes import NotReadyError, Services, interruptible, undisturbed
from examples.demo.report import TOLERANCE, Report, Rest
from vantage6.client import Client, Collaboration, Task
from vantage6.common.errors import Vantage6Error

WAIT_SECONDS = 600


class DifferentError(Exception):
    """The analysis did not give what the pooled data give."""


def main() -> int:
    interruptible()
    report = Report()
    # Short, since the path of a Unix socket must be; private, since keys go in there.
    folder = Path(tempfile.mkdtemp(prefix="v6demo-"))
    network = Network(folder, "")
    try:
        network.runtime, why = engine.choose()
        return _demo(network, why, report)
    except KeyboardInterrupt:
        report.say("interrupted")
        return 130
    except (DifferentError, NotReadyError, Vantage6Error) as error:
        report.console.print(f"[red]failed:[/] {type(error).__name__}")
        report.say(str(error))
        return 1
    finally:
        undisturbed()
        engine.remove_leftovers(network.runtime, network.nodes)
        shutil.rmtree(folder, ignore_errors=True)


def _demo(network: Network, why: str, report: Report) -> int:
    if network.runtime == "docker":
        report.say(f"algorithms run in containers ({why})")
    else:
        report.say(f"{why}: algorithms run on the runtime {network.runtime!r}, which is for demonstrations only")
    with Services(network.folder / "logs") as services:
        try:
            task = _analysis(network, services, report)
        except (DifferentError, Vantage6Error):
            _show_logs(network.folder / "logs", report)
            raise
        report.times()
        _go_on(network, task, report)
    return 0


def _analysis(network: Network, services: Services, report: Report) -> Task:
    with report.phase("server and gateway"):
        network.start_centre(services)
        report.say(f"one port for gRPC and REST: {network.url}")
    with report.phase("organizations, keys, users"):
        study = network.register()
        report.say(f"{study.name}: encrypted, {len(network.organizations)} organizations")
    with report.phase("three hospitals"):
        network.start_nodes(services)
        report.say(", ".join(f"{name} ({count} patients)" for name, count in data.HOSPITALS.items()))
    with network.client() as client, report.phase("federated logistic regression"):
        client.authenticate(RESEARCHER, network.password)
        client.setup_encryption(network.key_file)
        task, fit = _regression(client, network, study)
        subtask = next(client.task.list(parent=task.id))
        report.say(f"{fit['count']} patients, {fit['iterations']} iterations")
    with report.phase("the same model on the pooled data"):
        pooled = data.pooled_fit(data.patients())
    largest = report.coefficients(cast("Mapping[str, float]", fit["coefficients"]), pooled)
    if largest >= TOLERANCE:
        raise DifferentError(f"the fits differ by {largest:.1e}")
    with report.phase("one of its subtasks over REST"):
        rest = Rest(network.url, network.ca_file)
        rest.log_in(RESEARCHER, network.password)
        path = f"/api/task/{subtask.id}"
        report.rest("GET", f"{network.url}{path}", rest.get(path))
    return task


def _regression(client: Client, network: Network, study: Collaboration) -> tuple[Task, Mapping[str, object]]:
    """The central part runs at one hospital and asks all three."""
    hospitals = network.hospitals()
    task = client.task.create(
        study.id,
        hospitals[:1],
        IMAGE,
        {
            "method": "logistic_regression",
            "kwargs": {"features": data.FEATURES, "outcome": data.OUTCOME, "organizations": hospitals},
        },
        name="who has cancer?",
        databases=["default"],
    )
    try:
        client.wait(task, timeout=WAIT_SECONDS)
        [result] = client.results(task)
    except BaseException:
        client.task.cancel(task.id)
        raise
    if not result.completed:
        raise DifferentError(f"{result.organization_name}: {result.state} {result.reason} {result.message}")
    return task, cast("Mapping[str, object]", result.value)


def _go_on(network: Network, task: Task, report: Report) -> None:
    if not os.environ.get("KEEP"):
        report.commands(
            "make demo KEEP=1          # leaves it running, for looking around",
            "make test                 # everything that is promised, tried",
            "less examples/algorithms/logistic_regression/__init__.py",
        )
        return
    shell = f". {network.write_environment()}; "
    report.commands(
        f"{shell}.venv/bin/v6 task list",
        f"{shell}.venv/bin/v6 task result {task.id}",
        f"curl --cacert {network.ca_file} {network.url}/api/version",
    )
    report.say("in another terminal; everything runs until Ctrl-C here")
    signal.pause()


def _show_logs(logs: Path, report: Report) -> None:
    """What the processes said last: their files go with the demo."""
    for log in sorted(logs.glob("*.log")):
        report.console.print(f"[dim]{log.stem}, last lines[/]")
        report.say("\n  ".join(log.read_text(errors="replace").splitlines()[-8:]))


if __name__ == "__main__":
    sys.exit(main())
