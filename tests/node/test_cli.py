"""`vnode`, as a process where it matters."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.node.fake_server import API_KEY, PATIENCE
from tests.node.site import SiteUnderTest
from vantage6.common.commands import Code
from vantage6.common.keys import KeyPair
from vantage6.node.cli import main


def test_create_private_key(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "private.pem"
    made = CliRunner().invoke(main, ["create-private-key", str(path)])
    assert made.exit_code == 0
    assert KeyPair.load(path).public.fingerprint in made.output
    again = CliRunner().invoke(main, ["create-private-key", str(path)])
    assert again.exit_code == Code.EXISTS
    assert "left alone" in again.output


def test_wrong_configuration_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "node.yaml").write_text("application: {nam: x}")
    said = CliRunner().invoke(main, ["start", "--config", str(tmp_path / "node.yaml")])
    assert said.exit_code == Code.CONFIG
    assert "did you mean 'name'" in said.output
    assert "Traceback" not in said.output


def test_version() -> None:
    said = CliRunner().invoke(main, ["version"])
    assert said.exit_code == 0
    assert "contract" in said.output


@pytest.mark.row("M22")
async def test_start_and_stop_of_a_real_process(site: SiteUnderTest) -> None:
    config = site.folder / "node.yaml"
    config.write_text(f"""
application:
  name: north
  server_url: http://127.0.0.1:{site.server.port}
  api_key: {API_KEY}
  private_key: key.pem
  runtime: "null"
  directories: {{data: data, task: t}}
  policy: {{allowed_images: [".*"]}}
""")
    command = (sys.executable, "-m", "vantage6.node.cli", "start", "--foreground", "--config", str(config))
    process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
    try:
        await site.server.connection()
        second = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        _, said = await second.communicate()
        assert b"another process is running this node" in said
        process.send_signal(signal.SIGTERM)
        _, text = await asyncio.wait_for(process.communicate(), PATIENCE)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0
    for word in (b"starting", b"contract=1.0", b"python=", b"engine=", b"online", b"stopped"):
        assert word in text
    assert API_KEY.encode() not in text
