"""docs/gateway.md: what it shows is what there is."""

from __future__ import annotations

import contextlib
import io
import json
import textwrap
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.documents import blocks
from vantage6.gateway.certificates import Certificates, make_certificates
from vantage6.gateway.config import GatewayConfig, Tls, load
from vantage6.gateway.run import Gateway

PAGE = "docs/gateway.md"
pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("gateway"), pytest.mark.asyncio(loop_scope="session")]


async def test_the_configuration_of_the_page(tmp_path: Path) -> None:
    [text] = blocks(PAGE, "yaml")
    make_certificates(tmp_path / "certs")
    (tmp_path / "gateway.yaml").write_text(text)
    config = load(tmp_path / "gateway.yaml")
    assert config.tls is not None
    assert config.tls.key == tmp_path / "certs" / "server.key"
    assert config.cors_origins == ("https://portal.example",)


async def test_the_program_of_the_page(certificates: Certificates) -> None:
    [code] = blocks(PAGE, "python")
    program = f"async def program():\n{textwrap.indent(code, '    ')}"
    for name in ("certificate", "key"):
        program = program.replace(f"{name}=…", f"{name}=certificates.{name}")
    names: dict[str, Any] = {
        "Gateway": Gateway, "GatewayConfig": GatewayConfig, "Tls": Tls, "certificates": certificates,
    }  # fmt: skip
    exec(program, names)
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        await names["program"]()
    assert output.getvalue().startswith("https://127.0.0.1:")


async def test_the_error_of_the_page(rest: httpx.AsyncClient) -> None:
    [shown] = blocks(PAGE, "json")
    answer = await rest.post("/api/organization", json={"name": "taken"})
    assert answer.json() == json.loads(shown.replace("'North'", "'taken'"))
