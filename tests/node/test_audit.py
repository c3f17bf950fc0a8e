"""The audit log: what it says of a run, and that no change to it goes unseen."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.node.site import SiteUnderTest
from vantage6.node import audit as audit_module
from vantage6.node import states
from vantage6.node.audit import Audit, AuditBroken, records, verify
from vantage6.node.cli import main


@pytest.fixture
def log(tmp_path: Path) -> Path:
    audit = Audit(tmp_path / "audit.jsonl")
    for number in range(5):
        audit.write("asked", result_id=number, user="alice\n\x1b[31m", organization="Zürich")
    return audit.path


def test_unbroken(log: Path) -> None:
    assert verify(log).count == 5
    assert [each["result_id"] for each in records(log)] == [0, 1, 2, 3, 4]
    assert log.stat().st_mode & 0o777 == 0o600


def test_goes_on_after_a_restart(log: Path) -> None:
    Audit(log).write("started")
    assert verify(log).count == 6


def test_a_line_that_a_crash_cut_short(log: Path) -> None:
    with log.open("ab") as stream:
        stream.write(b'{"number": 6, "ti')
    with pytest.raises(AuditBroken, match="last line is no whole record"):
        verify(log)
    Audit(log).write("started")
    assert verify(log).count == 7
    assert [each["event"] for each in records(log)][-2:] == ["torn", "started"]


@pytest.mark.attack
@pytest.mark.parametrize(
    "tampering", ["change", "delete", "swap", "insert", "cut the end", "make anew", "hide as torn"]
)
def test_tampering_is_seen(log: Path, tampering: str) -> None:
    lines = log.read_bytes().splitlines(keepends=True)
    if tampering == "change":
        lines[2] = lines[2].replace(b'"result_id": 2', b'"result_id": 9')
    elif tampering == "delete":
        del lines[2]
    elif tampering == "swap":
        lines[1], lines[2] = lines[2], lines[1]
    elif tampering == "insert":
        lines.insert(2, lines[2])
    elif tampering == "cut the end":
        del lines[3:]
    elif tampering == "hide as torn":
        lines[2] = b"#" + lines[2]
    elif tampering == "make anew":
        before, made = "0" * 64, []
        for line in lines:
            record = {**json.loads(line), "user": "bob", "before": before}
            text = json.dumps(record).encode()
            before = hashlib.sha256(text).hexdigest()
            made.append(text + b"\n")
        lines = made
    log.write_bytes(b"".join(lines))
    with pytest.raises(AuditBroken):
        verify(log)


async def test_what_it_says_of_a_run(site: SiteUnderTest) -> None:
    connection = await site.online()
    connection.send(assignment=site.assignment(b'json.{"method": "mean", "secret": 77}'))
    report = await site.server.report(states.COMPLETED)
    connection.send(assignment=site.assignment(result_id=13, image="evil/miner:1"))
    await site.server.report(states.REFUSED)
    assert site.node
    path = site.node.site.gate.audit.path
    told = [each for each in records(path) if each.get("result_id") == 12]
    assert [each["event"] for each in told] == ["asked", "allowed", "left", "ended"]
    assert {each["user"] for each in told} == {"alice"}
    assert {each["organization"] for each in told} == {"University"}
    assert told[1]["digest"] == "sha256:" + "0" * 64
    assert told[1]["method"] == "mean"
    output = site.opened(report)
    assert (told[2]["size"], told[2]["sha256"]) == (len(output), hashlib.sha256(output).hexdigest())
    refused = [each for each in records(path) if each.get("result_id") == 13]
    assert [each["event"] for each in refused] == ["asked", "ended"]
    assert (refused[1]["state"], refused[1]["reason"]) == ("REFUSED", "IMAGE_NOT_ALLOWED")
    assert b"77" not in b"".join(line for line in path.read_bytes().split(b"\n") if b"secret" in line)
    assert verify(path).count >= 7


def test_commands(tmp_path: Path) -> None:
    config = tmp_path / "node.yaml"
    settings = {
        "name": "north",
        "server_url": "http://127.0.0.1:1",
        "api_key": "k",
        "directories": {"data": str(tmp_path)},
    }
    config.write_text(json.dumps({"application": settings}))
    run = CliRunner()
    arguments = ["--config", str(config)]
    assert "no audit log yet" in run.invoke(main, ["audit", "verify", *arguments]).output
    audit = Audit(tmp_path / "audit.jsonl")
    audit.write("asked", result_id=3, user="\x1b[31mmallory")
    audit.write("left", result_id=3, size=10)
    good = run.invoke(main, ["audit", "verify", *arguments])
    assert good.exit_code == 0
    assert "2 records, unbroken" in good.output
    shown = run.invoke(main, ["audit", "show", *arguments, "--event", "asked"])
    assert "mallory" in shown.output
    assert "\x1b[31m" not in shown.output
    machine = run.invoke(main, ["audit", "show", *arguments, "--json", "--last", "1"])
    assert json.loads(machine.output)[0]["size"] == 10
    audit.path.write_bytes(audit.path.read_bytes().replace(b'"size": 10', b'"size": 11'))
    bad = run.invoke(main, ["audit", "verify", *arguments])
    assert bad.exit_code == 9


@pytest.mark.row("M27")
@pytest.mark.parametrize("moment", ["half a line", "no head"])
def test_a_full_disk_leaves_the_chain_whole(log: Path, moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The record is written again when there is room, by the same process."""
    audit = Audit(log)
    audit.write("before")
    full = OSError(errno.ENOSPC, "no space")

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:9])
        raise full

    def no_head(*_: object, **__: object) -> int:
        raise full

    with monkeypatch.context() as patch:
        if moment == "half a line":
            patch.setattr(audit_module, "_write", half)
        else:
            patch.setattr(Path, "write_text", no_head)
        with pytest.raises(OSError, match="no space"):
            audit.write("kept")
    audit.write("kept")
    assert [record["event"] for record in records(log)][-1] == "kept"
    verify(log)
