"""The OpenAPI description: valid, complete, and true when a machine tries it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from vantage6.gateway.config import GatewayConfig
from vantage6.gateway.contract import bindings
from vantage6.server.openapi import document
from vantage6.server.openapi_page import page_bytes

from .conftest import Site

pytestmark = [pytest.mark.envoy, pytest.mark.asyncio(loop_scope="session"), pytest.mark.xdist_group("rest")]


async def test_it_holds_every_path_with_the_code_that_the_gateway_answers() -> None:
    paths = document()["paths"]
    found = bindings(GatewayConfig(plaintext=True).descriptors)
    assert {(b.path, b.method.lower()) for b in found} == {(path, verb) for path in paths for verb in paths[path]}
    for binding in found:
        codes = set(paths[binding.path][binding.method.lower()]["responses"]) - {"default"}
        chosen = "200" if binding.rpc in {"CreateTask", "CreateCollaboration"} else "201"
        assert codes == {chosen if binding.creates else "200"}, binding
    ids = [operation["operationId"] for path in paths.values() for operation in path.values()]
    assert len(ids) == len(set(ids))


async def test_it_is_served_and_so_is_the_page(site: Site) -> None:
    async with site.web() as web:
        answer = await web.get("/api/openapi.json")
        assert answer.json() == document()
        assert answer.headers["content-type"].startswith("application/json")
        page = await web.get("/api/docs")
    assert page.content == page_bytes()
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    assert "<script" not in page.text
    assert "http://" not in page.text.replace("http://www.w3.org", "")


CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
OWN_WAY_IN = "^/api/(token|session|recover)"
# Examples of each call, and the checks besides those of everybody. Root is the last, since it deletes what it finds.
FUZZED = {"researcher": (3, ",ignored_auth"), "anonymous": (2, ""), "root": (6, "")}


@pytest.mark.parametrize("who", FUZZED)
async def test_schemathesis_finds_no_lie_and_no_crash(site: Site, tmp_path: Path, who: str) -> None:
    """All calls: no 5xx, answers of the described status, type and shape, nothing without a token that needs one."""
    examples, more = FUZZED[who]
    arguments = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{site.url}/api/openapi.json", "--url", site.url,
        "--tls-verify", "false", "--phases", "fuzzing", "--max-examples", str(examples),
        "--seed", "6", "--generation-deterministic", "--exclude-path", "/api/event",
        "--checks", CHECKS + more, "--no-color",
        # Failed attempts count by address; the other tests have theirs.
        "--header", f"X-Forwarded-For: 10.66.0.{examples}",
    ]  # fmt: skip
    if who != "anonymous":
        async with site.door("rest") as door:
            token = site.tokens[who if who == "root" else await door.person(who)]
        arguments += ["--exclude-path-regex", OWN_WAY_IN, "--header", f"Authorization: Bearer {token}"]
    done = await asyncio.to_thread(subprocess.run, arguments, capture_output=True, text=True, cwd=tmp_path, check=False)
    print(done.stdout[-3000:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
