"""The real server behind the real gateway, with a small unencrypted network in it, made through REST alone."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from argon2 import PasswordHasher

from vantage6.gateway.certificates import make_certificates
from vantage6.gateway.config import GatewayConfig, Tls
from vantage6.gateway.run import Gateway
from vantage6.server.app import Server
from vantage6.server.config import ServerConfig

ROOT_PASSWORD = "root of all evil, and good"
PASSWORD = "correct horse battery"
KEY = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUE9PQotLS0tLUVORCBQVUJMSUMgS0VZLS0tLS0K"


@dataclass
class Mailbox:
    """Stands for the mail server (tests/server/test_mail.py has a real one)."""

    mails: list[tuple[str, str, str]] = field(default_factory=list)

    async def send(self, to: str, subject: str, body: str) -> None:
        self.mails.append((to, subject, body))


@dataclass
class Site:
    """What callers of the REST interface need to know."""

    url: str
    trust: ssl.SSLContext
    ca: Path
    server: Server
    organizations: list[int] = field(default_factory=list)
    collaboration_id: int = 0
    api_keys: list[str] = field(default_factory=list)
    tokens: dict[str, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    mailbox: Mailbox = field(default_factory=Mailbox)

    def web(self, who: str = "") -> httpx.AsyncClient:
        headers = {"authorization": f"Bearer {self.tokens[who]}"} if who else {}
        return httpx.AsyncClient(base_url=self.url, verify=self.trust, headers=headers, timeout=60)

    def door(self, kind: str) -> Any:
        """A Door of doors.py, to be entered."""
        from .doors import opened  # noqa: PLC0415 - it stands on this file

        return opened(self, kind)

    async def log_in(self, username: str, password: str = PASSWORD) -> dict[str, Any]:
        async with self.web() as web:
            answer = await web.post("/api/token/user", json={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        self.tokens[username] = answer.json()["access_token"]
        return dict(answer.json())


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Site]:
    folder = tmp_path_factory.mktemp("rest")
    (folder / "root.password").write_text(ROOT_PASSWORD)
    settings = {"address": "127.0.0.1:0", "data_dir": folder / "data", "root_password_file": folder / "root.password"}
    certificates = make_certificates(folder / "certificates")
    async with Server(ServerConfig.model_validate(settings)) as server:
        config = GatewayConfig(
            listen="127.0.0.1:0",
            servers=(f"127.0.0.1:{server.port}",),
            tls=Tls(certificate=certificates.certificate, key=certificates.key),
            access_log=folder / "access.log",
            # Callers say who they are: failed attempts count by address, and here all come from one.
            trusted_proxies=1,
            workers=1,
        )
        async with Gateway(config) as gateway:
            site = Site(gateway.url, ssl.create_default_context(cafile=str(certificates.ca)), certificates.ca, server)
            server.passwords._hasher = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
            server.recovery._mailer = site.mailbox
            await _fill(site)
            yield site


async def _fill(site: Site) -> None:
    await site.log_in("root", ROOT_PASSWORD)
    async with site.web("root") as web:

        async def post(path: str, status: int, **body: Any) -> dict[str, Any]:
            answer = await web.post(f"/api/{path}", json=body)
            assert answer.status_code == status, answer.text
            return dict(answer.json())

        for letter in "AB":
            made = await post("organization", 201, name=f"Hospital {letter}", domain="x.example", public_key=KEY)
            site.organizations.append(made["id"])
        study = await post("collaboration", 200, name="study", organization_ids=site.organizations, encrypted=False)
        site.collaboration_id = study["id"]
        for organization in site.organizations:
            node = await post("node", 201, collaboration_id=study["id"], organization_id=organization)
            site.api_keys.append(node["api_key"])
        for name, roles, organization in (
            ("researcher", "researcher", site.organizations[0]), ("viewer", "viewer", site.organizations[1]),
            ("admin", "organization_admin", site.organizations[0]),
        ):  # fmt: skip
            person = {"username": name, "email": f"{name}@x.example", "password": PASSWORD, "roles": roles}
            await post("user", 201, **person, organization_id=organization)
            await site.log_in(name)


@pytest_asyncio.fixture(params=["grpc", "rest"], loop_scope="session")
async def door(request: pytest.FixtureRequest, site: Site) -> AsyncIterator[Any]:
    """A Door of doors.py: whoever uses this is tried through both."""
    async with site.door(request.param) as made:
        yield made
