"""A node in a container: what is mounted is what its settings name in there, and what it gets of the environment."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any, cast

import pytest

from vantage6.common.contexts import Kind, find
from vantage6.common.errors import Vantage6Error
from vantage6.node.admin.container import _await_word, given_inside, running
from vantage6.node.admin.way import Way
from vantage6.node.app import _runtime_options
from vantage6.node.config import NodeConfig, load_context
from vantage6.node.dockerized import DEFAULT_IMAGE, DEVELOPMENT_IMAGE, as_seen_inside, engine_socket, mounts
from vantage6.node.doctor_runtime import _elsewhere
from vantage6.node.options import logins, variable_of

WHOLE = """
application:
  server_url: https://server.example
  ca_file: ca.pem
  api_key_file: key
  private_key: organization.pem
  databases: {default: {uri: patients.csv}, web: {uri: "https://x.example/y", type: other}}
  policy: {signatures: [a/cosign.pub, b/cosign.pub]}
  hardening: {seccomp: profile.json}
  runtime_options:
    base_url: unix:///run/user/7/docker.sock
    registries:
      one.example:443: {username: u, password_file: one.password, ca_file: one.pem}
      two.example: {username: v}
  directories: {data: own/data, task: own/tasks, log: own/log}
"""


def written(folder: Path, text: str) -> NodeConfig:
    (folder / "north.yaml").write_text(text)
    return load_context(find(Kind.NODE, config=folder / "north.yaml"))


def places(config: NodeConfig, folder: Path) -> dict[str, tuple[str, bool]]:
    return {
        each["Target"]: (each["Source"], bool(each.get("ReadOnly"))) for each in mounts(config, folder / "north.yaml")
    }


def files(config: NodeConfig) -> list[Path]:
    """Every file and folder that the settings name."""
    options = config.runtime_options["registries"]["one.example:443"]
    found = [config.ca_file, config.api_key_file, config.private_key, Path(config.databases["default"].uri),
             *config.policy.signatures, Path(config.hardening.seccomp), Path(options["password_file"]),
             Path(options["ca_file"]), config.data_dir, config.task_dir, config.log_dir]  # fmt: skip
    assert all(found)
    return [path for path in found if path]


@pytest.mark.row("M04")
@pytest.mark.row("M23")
def test_what_is_mounted_is_what_the_node_finds(tmp_path: Path) -> None:
    config = written(tmp_path, WHOLE)
    inside = as_seen_inside(config, config.instance)
    mounted = places(config, tmp_path)
    for outer, inner in zip(files(config), files(inside), strict=True):
        assert str(inner).startswith("/mnt/")
        assert mounted[str(inner)][0] == str(outer), inner
        assert mounted[str(inner)][1] is not outer.is_relative_to(tmp_path / "own"), inner
    assert len({str(each) for each in files(inside)}) == len(files(inside))
    assert inside.databases["web"].uri == "https://x.example/y"
    assert mounted["/var/run/docker.sock"] == ("/run/user/7/docker.sock", False)
    assert "base_url" not in inside.runtime_options
    assert mounted["/mnt/config"] == (str(tmp_path), True)


@pytest.mark.row("M23")
@pytest.mark.parametrize(("given", "own"), [("", []), ("data: d", ["node"]), ("task: t", ["tasks"])])
def test_only_folders_that_were_chosen_are_taken_out_of_the_volume(tmp_path: Path, given: str, own: list[str]) -> None:
    config = written(tmp_path, f"application: {{server_url: 'https://s', directories: {{{given}}}}}\n")
    found = places(config, tmp_path)
    assert [name for name in ("node", "tasks") if f"/mnt/data/{name}" in found] == own
    assert found["/mnt/data"] == (f"vantage-{config.instance}-vol", False)


@pytest.mark.parametrize(
    ("address", "socket"),
    [
        (None, "/var/run/docker.sock"), ("unix:///x.sock", "/x.sock"), ("http+unix:///y.sock", "/y.sock"),
        ("tcp://127.0.0.1:2376", ""), ("ssh://engine.example", ""),
    ],
)  # fmt: skip
def test_an_engine_without_a_socket_here_has_no_container_of_ours(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str | None, socket: str
) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    if address:
        monkeypatch.setenv("DOCKER_HOST", address)
    config = written(tmp_path, "application: {server_url: 'https://s'}\n")
    assert engine_socket(config) == socket
    findings = _elsewhere(address or "unix:///var/run/docker.sock")
    assert [finding.outcome for finding in findings] == ([] if socket else ["warning"])
    if not socket:
        assert str(address) in findings[0].detail
        assert running(find(Kind.NODE, config=tmp_path / "north.yaml"), config) is None


def test_a_registry_s_password_comes_from_its_file_or_the_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "one.password").write_text("from the file\n")
    monkeypatch.setenv("VANTAGE6_REGISTRY_PASSWORD_TWO_EXAMPLE", "from the environment")
    monkeypatch.setenv("VANTAGE6_REGISTRY_PASSWORD_ONE_EXAMPLE_443", "not asked for")
    config = written(tmp_path, WHOLE)
    found = logins(config)
    assert found["one.example:443"] == {
        "username": "u", "password": "from the file", "ca_file": str(tmp_path / "one.pem"),
    }  # fmt: skip
    assert found["two.example"] == {"username": "v", "password": "from the environment"}
    assert _runtime_options(config)["registries"] == found
    assert variable_of("one.example:443") in given_inside(config)
    (tmp_path / "one.password").unlink()
    with pytest.raises(Vantage6Error, match=r"password_file of registry one.example:443: .* cannot be read"):
        logins(config)


def test_the_container_is_given_the_key_and_the_way_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = {
        "VANTAGE6_NODE_API_KEY": "key", "HTTPS_PROXY": "http://u:p@proxy.example:3128", "no_proxy": "x.example",
        "VANTAGE6_REGISTRY_PASSWORD_TWO_EXAMPLE": "p",
    }  # fmt: skip
    for name, value in {**wanted, "AWS_SECRET_ACCESS_KEY": "not for the node"}.items():
        monkeypatch.setenv(name, value)
    found = given_inside(written(tmp_path, WHOLE))
    assert found.items() >= wanted.items()
    assert "AWS_SECRET_ACCESS_KEY" not in found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("runtime_options: {pul: never}", "did you mean 'pull'"),
        ("runtime_options: {pull: sometimes}", "'newer', 'missing', 'always' or 'never'"),
        ("runtime_options: {registries: {x: {usrname: u}}}", "did you mean 'username'"),
        ("runtime_options: {registries: {x: {password: p, password_file: f}}}", "not both"),
        ("runtime: sandbox\n  runtime_options: {image_foldr: x}", "did you mean 'image_folder'"),
    ],
)
def test_a_wrong_option_of_the_runtime_is_named_with_its_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(Vantage6Error, match=said) as caught:
        written(tmp_path, f"application:\n  server_url: https://s\n  {line}\n")
    assert "north.yaml, line " in caught.value.message


class Silent:
    """A container that says nothing to whom it was started by, and has a log."""

    def __init__(self) -> None:
        self.said = threading.Event()

    def logs(self, *, stream: bool = False, tail: int = 0, **_: Any) -> Any:
        if not stream:
            return b"link_lost reason=UNAVAILABLE\nretry in 2 s\n"[: 1000 * tail]
        self.said.wait()
        return iter(())


def test_one_that_is_late_shows_the_end_of_its_log() -> None:
    container = Silent()
    try:
        started = _await_word(cast("Any", container), 0.05)
    finally:
        container.said.set()
    assert (started.ok, started.pid) == (False, 1)
    assert started.facts["message"] == "link_lost reason=UNAVAILABLE\nretry in 2 s"


def test_a_way_is_kept_and_only_what_is_said_again_is_changed() -> None:
    way = Way(image="a:1", develop="/clone", log_format="json", verbose=True)
    assert Way.of({"way": way.kept()}) == way
    assert way.changed(image=None, verbose=False) == Way("a:1", develop="/clone", log_format="json")
    assert way.flags == ["--log-format", "json", "--verbose"]
    assert (Way().from_image, Way(develop="/x").from_image, way.from_image) == (
        DEFAULT_IMAGE, DEVELOPMENT_IMAGE, "a:1",
    )  # fmt: skip
    strange: list[Any] = [
        None, {}, {"way": "no json"}, {"way": '{"unknown": 1}'}, {"way": "[1]"}, {"way": '"text"'}, {"way": 7},
        {"way": '{"image": 5, "local": "no"}'},
    ]  # fmt: skip
    assert [Way.of(each) for each in strange] == [Way()] * 8
