"""What a site may weaken: what then goes to the engine, and that log, audit log and `vnode list` say it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pydantic import ValidationError

from tests.node.site import SiteUnderTest
from vantage6.node.audit import records
from vantage6.node.cli import main
from vantage6.node.runtimes.base import Limits, RunSpec
from vantage6.node.runtimes.hardening import Hardening
from vantage6.node.runtimes.isolation import hardening


def asked_of_the_engine(**settings: Any) -> dict[str, Any]:
    spec = RunSpec("key", "image", Path("/r"), limits=Limits(pids=99, open_files=77, cpus=0.5))
    return {**hardening(spec, lambda path: path, Hardening.model_validate(settings))}


def test_the_default_is_the_hardest() -> None:
    asked = asked_of_the_engine()
    assert Hardening().weaknesses() == []
    assert (asked["network_mode"], asked["read_only"], asked["privileged"]) == ("none", True, False)
    assert (asked["cap_drop"], asked["cap_add"]) == (["ALL"], None)
    assert asked["security_opt"] == ["no-new-privileges:true"]  # No word of seccomp: the engine's profile.
    assert (asked["runtime"], asked["device_requests"]) == (None, None)
    assert (asked["pids_limit"], asked["nano_cpus"]) == (99, 5 * 10**8)
    assert asked["mem_limit"] == asked["memswap_limit"]
    ulimits = {each.name: each.hard for each in asked["ulimits"]}
    assert ulimits == {"nofile": 77, "fsize": Limits().output_bytes, "core": 0}


@pytest.mark.parametrize(
    ("gpus", "request_"),
    [
        ("all", {"Count": -1, "DeviceIDs": []}),
        (2, {"Count": 2, "DeviceIDs": []}),
        ("GPU-1f,GPU-2a", {"Count": 0, "DeviceIDs": ["GPU-1f", "GPU-2a"]}),
    ],
)
def test_gpus_where_the_site_allows_them(gpus: object, request_: dict[str, object]) -> None:
    [device] = asked_of_the_engine(gpus=gpus)["device_requests"]
    assert dict(device) == {"Driver": "", "Capabilities": [["gpu"]], "Options": {}, **request_}
    assert any("hardening.gpus" in each for each in Hardening.model_validate({"gpus": gpus}).weaknesses())


def test_gvisor_is_asked_for_and_no_weakness() -> None:
    assert asked_of_the_engine(oci_runtime="runsc")["runtime"] == "runsc"
    assert Hardening(oci_runtime="runsc").weaknesses() == []


def test_every_weaker_setting_is_asked_for_and_named(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    weak: dict[str, tuple[object, str, object]] = {
        "read_only": (False, "read_only", False),
        "no_new_privileges": (False, "security_opt", []),
        "capabilities": (["SYS_PTRACE"], "cap_add", ["SYS_PTRACE"]),
        "seccomp": ("unconfined", "security_opt", ["no-new-privileges:true", "seccomp=unconfined"]),
        "oci_runtime": ("kata", "runtime", "kata"),
    }
    for name, (value, argument, expected) in weak.items():
        assert asked_of_the_engine(**{name: value})[argument] == expected
        [said] = Hardening.model_validate({name: value}).weaknesses()
        assert said.startswith(f"hardening.{name}:")
    own = asked_of_the_engine(seccomp=str(profile))["security_opt"]
    assert own[1] == 'seccomp={"defaultAction": "SCMP_ACT_ALLOW"}'
    for user in ("0:0", "1000:1000"):
        assert len(Hardening(user=user).weaknesses()) == 1


@pytest.mark.parametrize(
    "wrong", [{"user": "root"}, {"gpus": "a b"}, {"gpus": "-1"}, {"gpus": 0}, {"privileged": True}]
)
def test_settings_that_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Hardening.model_validate(wrong)


async def test_weakening_is_on_record(site: SiteUnderTest, capsys: pytest.CaptureFixture[str]) -> None:
    site.settings |= {"hardening": {"user": "0:0"}, "limits": {"pids": 5000, "seconds": 60}}
    await site.online()
    assert site.node
    started = next(records(site.node.site.gate.audit.path))
    assert started["event"] == "started"
    assert started["weakened"] == site.node.config.weaknesses()
    assert [each.partition(":")[0] for each in started["weakened"]] == ["hardening.user", "limits.pids"]


def test_the_list_shows_it(tmp_path: Path) -> None:
    places = {f"XDG_{name}": str(tmp_path / name.lower()) for name in ("CONFIG_HOME", "DATA_HOME", "CONFIG_DIRS")}
    folder = tmp_path / "config_home" / "vantage6" / "node"
    folder.mkdir(parents=True)
    base = "server_url: https://s.example, runtime: 'null'"
    (folder / "north.yaml").write_text(
        f"application: {{{base}}}\n"
        f"environments:\n  test: {{{base}, hardening: {{read_only: false}}, limits: {{cpus: 3}}}}\n"
    )
    plain = CliRunner().invoke(main, ["list", "--user"], env=places)
    assert "Weakened" in plain.output.splitlines()[0]
    assert "hardening.read_only" in plain.output
    assert "limits.cpus: 3.0 instead of 1.0" in plain.output
    found = json.loads(CliRunner().invoke(main, ["list", "--user", "--json"], env=places).stdout)
    [row] = found["nodes"]
    assert list(row["weakened"]) == ["test"]
    assert [each.partition(":")[0] for each in row["weakened"]["test"]] == ["hardening.read_only", "limits.cpus"]
    (folder / "north.yaml").write_text(f"application: {{{base}}}\n")
    assert "Weakened" not in CliRunner().invoke(main, ["list", "--user"], env=places).output
