"""Real processes that are killed, and an algorithm that writes down each time it is run."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.flows.network import IMAGES, ROOT, Network, Process, Site, start_gateway, start_node, start_server
from vantage6.client import Client, Task
from vantage6.common.errors import Unavailable
from vantage6.common.faults import VARIABLE
from vantage6.server.domain.states import FINAL

IMAGE = "vantage6/examples/count:dev"
ALGORITHM = """
import json, os, time
flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
os.umask(0)
with os.fdopen(os.open(os.environ["TEMPORARY_FOLDER"] + "/starts", flags, 0o666), "w") as book:
    book.write("started\\n")
with open(os.environ["INPUT_FILE"]) as stream:
    seconds = json.loads(stream.read().removeprefix("json."))["args"][0]
time.sleep(seconds)
with open(os.environ["OUTPUT_FILE"], "w") as stream:
    stream.write("json." + json.dumps("x" * 100000 if seconds == 0.25 else 42))
"""


def make_images() -> None:
    """The images of `make images`; nothing is made again that is there."""
    subprocess.run([sys.executable, str(ROOT / "tools" / "images.py")], check=True, cwd=ROOT)


def make_image(folder: Path) -> Path:
    """An image folder with one image: Python, and a program that counts its starts where the node can read it."""
    make_images()
    python = IMAGES / "vantage6__python:dev"
    description = json.loads((python / "image.json").read_text())
    description["entrypoint"] = ["python3", "-c", ALGORITHM]
    description["workdir"] = "/"
    image = folder / IMAGE.replace("/", "__")
    image.mkdir(parents=True)
    (image / description["rootfs"]).symlink_to(python / description["rootfs"])
    (image / "image.json").write_text(json.dumps(description))
    return folder


class Asked:
    """A task that is asked for in a thread, as by somebody who does not know that things break meanwhile."""

    def __init__(self, network: Network, seconds: float) -> None:
        self._network = network
        self._seconds = seconds
        self._done: Task | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._done = self._create_and_wait(self._network.client)
        except BaseException as error:  # noqa: BLE001 - raised again by result()
            self._error = error

    def _create_and_wait(self, client: Client) -> Task:
        fields: dict[str, Any] = {
            "collaboration": self._network.collaboration_id, "image": IMAGE,
            "organizations": [self._network.sites[0].organization_id],
            "input": {"method": "count", "args": [self._seconds]},
        }  # fmt: skip
        for _ in range(5):
            try:
                return client.wait(client.task.create(**fields), progress=False, timeout=90)
            except Unavailable:
                continue  # Not made, or made and not told of: then there are two, and both must end well.
        raise AssertionError("the server never came back")

    def result(self) -> Task:
        self._thread.join(100)
        if self._error is not None:
            raise self._error
        assert self._done is not None, "the task never ended"
        return self._done


def restart(network: Network, who: str, fault: str = "") -> Process:
    """Kills it, if it still lives, and starts it anew, perhaps to be killed at a point."""
    site = network.sites[0]
    {"server": network.server, "gateway": network.gateway, "node": site.node}[who].kill()
    if fault:
        os.environ[VARIABLE] = fault
    try:
        return _start(network, site, who)
    finally:
        os.environ.pop(VARIABLE, None)


def _start(network: Network, site: Site, who: str) -> Process:
    if who == "server":
        network.server = start_server(network.server_config, _nothing)
        return network.server
    if who == "gateway":
        network.gateway = start_gateway(network.gateway_config, _nothing)
        return network.gateway
    site.node = start_node(site.config)
    return site.node


def _nothing(_: Callable[..., object]) -> None:
    """The network itself stops what is in it at the end."""


def dies(process: Process) -> None:
    assert process.process.wait(90) == -signal.SIGKILL


def starts(site: Site) -> int:
    """How often algorithms were run at a site, ever."""
    books = (site.config.parent / "tasks" / "tmp").glob("*/starts")
    return sum(len(book.read_text().splitlines()) for book in books)


class Books:
    """What server and node have written down; read from their files, of which they know nothing."""

    def __init__(self, network: Network) -> None:
        (self._server,) = network.folder.rglob("data/server.db")
        self._site = network.sites[0].config.parent

    def results(self) -> list[tuple[int, int, int, int]]:
        """(id, state, epoch, losses)"""
        return self._rows(self._server, "SELECT id, state, epoch, losses FROM results ORDER BY id")

    def node_is_idle(self) -> bool:
        """Nothing in its journal, its outbox, its work folder and its runtime's."""
        journal = self._site / "data" / "journal.sqlite"
        held = self._rows(journal, "SELECT result_id FROM run") + self._rows(journal, "SELECT id FROM report")
        places = [self._site / "data" / "outbox", self._site / "tasks" / "runs", self._site / "data" / "sandbox"]
        left = [path for place in places if place.exists() for path in place.iterdir()]
        return not held and not left

    def all_final(self) -> bool:
        return all(state in {int(final) for final in FINAL} for _, state, _, _ in self.results())

    @staticmethod
    def _rows(path: Path, query: str) -> list[Any]:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30) as database:
            rows = database.execute(query).fetchall()
        database.close()
        return rows


def descendants(process: Process) -> list[str]:
    """Command lines of what a process has started and not reaped."""
    found, waiting = [], [process.process.pid]
    while waiting:
        parent = waiting.pop()
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            for child in task.read_text().split():
                waiting.append(int(child))
                found.append(Path(f"/proc/{child}/cmdline").read_text().replace("\0", " "))
    return found


def sandboxes(network: Network) -> list[str]:
    """Command lines of all sandboxes of this network, wherever they hang."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_text().replace("\0", " ")
        except OSError:
            continue
        if str(network.folder) in line and "bwrap" in line:
            found.append(line)
    return found


def kill_algorithms(network: Network) -> None:
    """The innermost processes of the sandboxes of this network's node."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            mine = entry.read_text().startswith("python3\0-c\0") and "TEMPORARY_FOLDER" in entry.read_text()
            inside = str(network.folder) in (entry.parent / "mountinfo").read_text()
        except OSError:
            continue
        if mine and inside:
            os.kill(int(entry.parent.name), signal.SIGKILL)


def open_files(process: Process) -> int:
    return len(list(Path(f"/proc/{process.process.pid}/fd").iterdir()))
