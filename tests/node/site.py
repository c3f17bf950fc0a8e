"""A node on a fake server and a fake runtime, and the researcher's side of the envelopes."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Self

import grpc

from tests.node.fake_runtime import FakeRuntime
from tests.node.fake_server import API_KEY, CONTAINER_TOKEN, Connection, FakeServer
from vantage6.api.v1.algorithm_pb2_grpc import AlgorithmServiceStub
from vantage6.api.v1.delivery_pb2 import Assignment, Party, Report
from vantage6.api.v1.organization_pb2 import Organization
from vantage6.common.envelope import Binding, Purpose, open_sealed, seal
from vantage6.common.keys import KeyPair
from vantage6.node.app import Node
from vantage6.node.config import NodeConfig
from vantage6.node.retry import Backoff

NODE, RESEARCHER, OTHER = 1, 2, 3
NAMES = {NODE: "North", RESEARCHER: "University", OTHER: "South"}
IMAGE = "example/average:1"
TASK_KEY = "task-5"


class SiteUnderTest:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = FakeServer()  # type: ignore[abstract]  # the rest answers UNIMPLEMENTED
        self.runtime = FakeRuntime()
        self.keys = {id_: KeyPair.generate() for id_ in NAMES}
        self.node: Node | None = None
        self._work: asyncio.Task[None] | None = None
        self.settings: dict[str, Any] = {
            "policy": {"allowed_images": [r"example/[a-z]+:\d+"]},
            "private_key": folder / "key.pem",
        }
        self.keys[NODE].save(folder / "key.pem")
        self.server.welcome.public_key = self.keys[NODE].public.to_pem()
        for id_, name in NAMES.items():
            pem = self.keys[id_].public.to_pem()
            self.server.organizations[id_] = Organization(id=id_, name=name, public_key=pem, domain=f"{name}.example")

    def config(self) -> NodeConfig:
        base: dict[str, Any] = {
            "name": "north",
            "server_url": f"http://127.0.0.1:{self.server.port}",
            "api_key": API_KEY,
            "directories": {"data": self.folder / "data", "task": self.folder / "t"},
        }
        return NodeConfig.model_validate({**base, **self.settings})

    def start(self) -> asyncio.Task[None]:
        self.node = Node(self.config(), self.runtime, Backoff(0.05, 0.2))
        self._work = asyncio.create_task(self.node.run())
        return self._work

    async def online(self) -> Connection:
        self.start()
        return await self.server.connection()

    async def stop(self) -> None:
        if self._work:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
            self._work = None

    async def close(self) -> None:
        if self._work and self._work.done() and not self._work.cancelled():
            self._work.exception()
        else:
            await self.stop()
        self.runtime.vanish()
        await self.server.stop()

    def assignment(self, data: bytes = b"json.{}", *, sealed: bool = True, **more: Any) -> Assignment:
        """A run that the researcher asks for; the input is sealed for the node."""
        if sealed:
            data = self.seal(data)
        run = Assignment(
            result_id=12,
            epoch=1,
            task_id=5,
            task_key=TASK_KEY,
            run_id=3,
            collaboration_id=7,
            image=IMAGE,
            initiator=Party(
                organization_id=RESEARCHER,
                name=NAMES[RESEARCHER],
                public_key=self.keys[RESEARCHER].public.to_pem(),
            ),
            username="alice",
            participants=3,
            container_token=CONTAINER_TOKEN,
        )
        run.input.inline = data
        for name, value in more.items():
            if name == "databases":
                run.databases.extend(value)
            elif name == "deadline":
                run.deadline.FromNanoseconds(int(value * 1e9))
            else:
                setattr(run, name, value)
        return run

    def seal(self, data: bytes, by: int = RESEARCHER, purpose: Purpose = Purpose.INPUT) -> bytes:
        binding = Binding(7, TASK_KEY, by, NODE, purpose)
        return seal(data, to=self.keys[NODE].public, by=self.keys[by], binding=binding)

    def opened(self, report: Report) -> bytes:
        """The output as the researcher reads it."""
        data = report.output.inline
        if report.output.payload_id:
            data = bytes(self.server.payloads[report.output.payload_id][1])
        binding = Binding(7, TASK_KEY, NODE, RESEARCHER, Purpose.OUTPUT)
        return open_sealed(data, to=self.keys[RESEARCHER], by=self.keys[NODE].public, binding=binding)


class Container:
    """What an algorithm does with its proxy: the address and the token from its files."""

    def __init__(self, run_dir: Path, token: str | None = None) -> None:
        self.channel = grpc.aio.insecure_channel(f"unix:{run_dir}/socket/proxy.sock")
        self.stub = AlgorithmServiceStub(self.channel)
        token = (run_dir / "token").read_text() if token is None else token
        self.metadata = (("authorization", f"Bearer {token}"),)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.channel.close()
