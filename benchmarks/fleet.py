"""Many nodes in one process: real ones with the runtime `null`, or light ones that speak the protocol only.

A real node is `vantage6.node.app.Node` as `vnode start` runs it. A light node logs in, connects (a connection of its
own), says hello, acknowledges what it is assigned, really opens the input and really seals an output, and reports. It
leaves out what happens on a node's own machine and would, for a thousand of them, only measure this one's disk: the
journal, the files of the run, the proxy's socket, and the reports PULLING and RUNNING in between.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog
import uvloop

from benchmarks.children import Child, obey
from benchmarks.deployment import Deployment, Party
from benchmarks.wire import OWN_CONNECTION
from vantage6.api.v1.auth_pb2 import CreateNodeTokenRequest
from vantage6.api.v1.auth_pb2_grpc import AuthServiceStub
from vantage6.api.v1.delivery_pb2 import Assignment, Heartbeat, Hello, NodeMessage, Report, Welcome
from vantage6.api.v1.delivery_pb2_grpc import DeliveryServiceStub
from vantage6.api.v1.result_pb2 import ResultState
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.envelope import Binding, Purpose, open_sealed, seal
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.common.trust import KnownOrganizations
from vantage6.node.app import Node
from vantage6.node.config import NodeConfig

CONNECTING = 50
"""So many nodes log in and connect at the same time."""
OUTPUT = b"json.null"


@dataclass(frozen=True)
class Station:
    """What a node of this process knows from the beginning."""

    api_key: str
    private_key: Path


class LightNode:
    def __init__(self, endpoint: Endpoint, station: Station, known: KnownOrganizations, window: int) -> None:
        self._station = station
        self._known = known
        self._window = window
        self._token = ""
        self._channel = open_channel(endpoint, token=lambda: self._token, options=OWN_CONNECTION)
        self.online = asyncio.Event()

    async def run(self, connecting: asyncio.Semaphore) -> None:
        async with self._channel as channel:
            async with connecting:
                request = CreateNodeTokenRequest(api_key=self._station.api_key)
                self._token = (await AuthServiceStub(channel).CreateNodeToken(request)).access_token
                call: Any = DeliveryServiceStub(channel).Connect()
                await call.write(NodeMessage(hello=Hello(contract_version="1.0", window=self._window)))
                message = await call.read()
            sealing = Sealing(KeyPair.load(self._station.private_key), self._known, message.welcome)
            beating = asyncio.create_task(_beat(call, message.welcome.heartbeat_seconds))
            self.online.set()
            try:
                while (message := await call.read()) is not grpc.aio.EOF:
                    if message.WhichOneof("message") == "assignment":
                        await _do(call, sealing, message.assignment)
            finally:
                beating.cancel()


async def _beat(call: Any, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        await call.write(NodeMessage(heartbeat=Heartbeat()))


@dataclass(frozen=True)
class Sealing:
    """What a node does with an input and an output, all in memory."""

    keys: KeyPair
    known: KnownOrganizations
    welcome: Welcome

    def open_and_seal(self, run: Assignment) -> bytes:
        if not self.welcome.encrypted:
            return OUTPUT
        party, own = run.initiator, self.welcome.organization_id
        key = PublicKey.from_pem(party.public_key)
        self.known.check(party.organization_id, party.name, key)
        inward = Binding(run.collaboration_id, run.task_key, party.organization_id, own, Purpose.INPUT)
        open_sealed(run.input.inline, to=self.keys, by=key, binding=inward)
        outward = Binding(run.collaboration_id, run.task_key, own, party.organization_id, Purpose.OUTPUT)
        return seal(OUTPUT, to=key, by=self.keys, binding=outward)


async def _do(call: Any, sealing: Sealing, run: Assignment) -> None:
    report = Report(result_id=run.result_id, epoch=run.epoch, state=ResultState.RESULT_STATE_ASSIGNED)
    await call.write(NodeMessage(report=report))
    report.state = ResultState.RESULT_STATE_COMPLETED
    report.start_time.GetCurrentTime()
    report.finish_time.GetCurrentTime()
    report.output.inline = sealing.open_and_seal(run)
    await call.write(NodeMessage(report=report))


def real_node(endpoint: Endpoint, station: Station, index: int, folder: Path) -> Node:
    return Node(NodeConfig.model_validate({
        "name": f"node-{index}", "server_url": endpoint.url, "ca_file": endpoint.ca_file, "api_key": station.api_key,
        "private_key": station.private_key, "runtime": "null", "policy": {"allowed_images": [".*"]},
        "limits": {"runs": 64},
        "directories": {"task": folder / str(index) / "t", "data": folder / str(index) / "d"},
    }))  # fmt: skip


async def serve(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text(encoding="utf-8"))
    endpoint = Endpoint(plan["url"], Path(plan["ca_file"]) if plan["ca_file"] else None)
    stations = [Station(entry["api_key"], Path(entry["private_key"])) for entry in plan["stations"]]
    if plan["real"]:
        nodes = [real_node(endpoint, station, index, folder) for index, station in enumerate(stations)]
        works = [asyncio.create_task(node.run()) for node in nodes]
        waits = [node.link.online.wait() for node in nodes]
    else:
        known, connecting = KnownOrganizations(folder / "known.json"), asyncio.Semaphore(CONNECTING)
        lights = [LightNode(endpoint, station, known, plan["window"]) for station in stations]
        works = [asyncio.create_task(light.run(connecting)) for light in lights]
        waits = [light.online.wait() for light in lights]
    everybody: asyncio.Future[Any] = asyncio.ensure_future(asyncio.gather(*waits))
    futures: list[asyncio.Future[Any]] = [everybody, *works]
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for work in works:
        if work.done():
            work.result()
    print(json.dumps({"online": len(waits)}), flush=True)
    obeying = asyncio.create_task(obey(_nothing))
    # A node that broke ends all, with its reason: who waits for its results must not wait for ever.
    await asyncio.wait([obeying, *works], return_when=asyncio.FIRST_COMPLETED)
    for work in works:
        if work.done():
            work.result()
    for work in works:
        work.cancel()
    await asyncio.gather(*works, return_exceptions=True)


async def _nothing(_: Mapping[str, Any]) -> Mapping[str, Any]:
    return {}


@asynccontextmanager
async def fleet(
    made: Deployment, parties: Sequence[Party], name: str, *, real: bool = False, window: int = 64
) -> AsyncIterator[Child]:
    """All of these nodes online, in one process."""
    folder = made.folder / name
    folder.mkdir()
    stations = []
    for party in parties:
        path = folder / f"{party.organization_id}.pem"
        party.keys.save(path)
        stations.append({"api_key": party.api_key, "private_key": str(path)})
    plan = {
        "url": made.url, "ca_file": str(made.ca_file) if made.ca_file else "", "real": real, "window": window,
        "stations": stations,
    }  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    async with Child(__name__, str(folder), log=folder / "fleet.log") as child:
        await child.hear()
        yield child


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR, stream=sys.stderr)
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    uvloop.run(serve(Path(sys.argv[1])))
