"""Starting and stopping a real Envoy: an event says that it serves, mistakes are told, nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import ssl
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from vantage6.gateway.certificates import Certificates
from vantage6.gateway.config import GatewayConfig, Tls
from vantage6.gateway.run import ConfigRefused, Gateway, NotStarted

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("gateway")]

NOBODY = ("127.0.0.1:9",)  # the discard port: no server listens there


def plain(**changes: object) -> GatewayConfig:
    return GatewayConfig.model_validate(
        {"listen": "127.0.0.1:0", "servers": NOBODY, "plaintext": True, "workers": 1, "access_log": "none"} | changes
    )


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_serves_when_started_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with Gateway(plain()) as gateway:
        async with httpx.AsyncClient(base_url=gateway.url) as client:
            answer = await client.get("/api/version")  # at once: the first try must do
        (folder,) = files(tmp_path)
        assert (folder / "envoy.json").stat().st_mode & 0o777 == 0o600
        assert (folder / "admin").stat().st_mode & 0o077 == 0
        pid = gateway.process.pid
    assert answer.status_code == 503
    error = answer.json()
    assert (error["code"], error["details"][0]["reason"]) == (14, "UNAVAILABLE")
    assert error["msg"]
    assert not files(tmp_path)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_a_taken_port_is_told() -> None:
    async with Gateway(plain()) as first:
        with pytest.raises(NotStarted, match="Address already in use"):
            await Gateway(plain(listen=f"127.0.0.1:{first.port}")).start()


async def test_a_certificate_that_is_missing_is_told(tmp_path: Path) -> None:
    tls = {"certificate": tmp_path / "no.pem", "key": tmp_path / "no.key"}
    with pytest.raises(ConfigRefused, match=r"no\.key"):
        await Gateway(plain(tls=tls)).start()


async def test_draining_ends_when_the_time_is_over() -> None:
    gateway = Gateway(plain(drain_seconds=1))
    await gateway.start()
    await asyncio.wait_for(gateway.stop(), 8)
    assert gateway.process.returncode == 0


async def test_two_servers_are_checked_and_one_that_is_gone_is_no_error() -> None:
    async with Gateway(plain(servers=("127.0.0.1:9", "localhost:9"))) as gateway, httpx.AsyncClient() as client:
        assert (await client.get(f"{gateway.url}/api/version")).status_code == 503


@pytest.mark.attack
async def test_the_access_log_holds_no_secret(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with Gateway(plain(access_log=log)) as gateway, httpx.AsyncClient() as client:
        secret = {"authorization": "Bearer SECRET-TOKEN", "cookie": "SECRET-COOKIE"}
        await client.get(f"{gateway.url}/api/organization?name=SECRET-QUERY", headers=secret)
        await client.post(f"{gateway.url}/api/token/user", json={"password": "SECRET-PASSWORD"})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["method"], line["path"]) for line in lines] == [
        ("GET", "/api/organization"),
        ("POST", "/api/token/user"),
    ]
    assert "SECRET" not in log.read_text()


@pytest.mark.attack
async def test_old_tls_is_refused(certificates: Certificates) -> None:
    tls = Tls(certificate=certificates.certificate, key=certificates.key)
    async with Gateway(plain(tls=tls)) as gateway:
        trust = ssl.create_default_context(cafile=str(certificates.ca))
        reader, writer = await asyncio.open_connection("localhost", gateway.port, ssl=trust)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.close()
        trust.set_ciphers("DEFAULT:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1_1"):
            trust.minimum_version = trust.maximum_version = ssl.TLSVersion.TLSv1_1
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("localhost", gateway.port, ssl=trust)
    del reader


def start_command(tmp_path: Path) -> subprocess.Popen[str]:
    """`python -m vantage6.gateway`, once it says that it is ready."""
    settings = tmp_path / "gateway.yaml"
    settings.write_text("application: {listen: 127.0.0.1:0, servers: ['127.0.0.1:9'], plaintext: true, workers: 1}\n")
    command = [sys.executable, "-m", "vantage6.gateway", "--config", str(settings)]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert process.stderr is not None
    assert "gateway ready on http://127.0.0.1:" in process.stderr.readline()
    return process


def test_the_command_ends_well_on_sigterm(tmp_path: Path) -> None:
    with start_command(tmp_path) as process:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=15)
    assert process.returncode == 0
    assert not list(tmp_path.glob("gateway-*"))


@pytest.mark.attack
def test_envoy_ends_when_the_command_is_killed(tmp_path: Path) -> None:
    with start_command(tmp_path) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        envoys = [os.pidfd_open(int(child)) for child in children]
        process.kill()
        for envoy in envoys:
            readable, _, _ = select.select([envoy], [], [], 10)  # a pidfd is readable when its process has ended
            os.close(envoy)
            assert readable
        process.communicate()
    assert envoys


@pytest.mark.parametrize(
    ("text", "words"),
    [("listen: 127.0.0.1:0", "tls is missing"), ("plaintext: true\nlisen: x", "lisen"), ("[1]", "mapping")],
)
def test_the_command_names_what_is_wrong_in_the_file(tmp_path: Path, text: str, words: str) -> None:
    settings = tmp_path / "gateway.yaml"
    settings.write_text(text)
    command = [sys.executable, "-m", "vantage6.gateway", "--config", str(settings)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
