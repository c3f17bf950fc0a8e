"""Which configuration is meant: name or file, environment, user or system."""

from __future__ import annotations

from pathlib import Path

import pytest

from vantage6.common.contexts import ContextMissing, Kind, Scope, check_name, configurations, every, find, folders
from vantage6.common.settings import ConfigError


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_STATE_HOME",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_DIRS",
        "XDG_DATA_DIRS",
    ):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path


def put(kind: Kind, scope: Scope, name: str, text: str = "application: {}\n") -> Path:
    path = folders(kind, scope).config / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.row("M29")
def test_the_folders_of_1x(places: Path) -> None:
    assert folders(Kind.NODE, Scope.USER).config == places / "XDG_CONFIG_HOME" / "vantage6" / "node"
    assert folders(Kind.SERVER, Scope.SYSTEM).config == places / "XDG_CONFIG_DIRS" / "vantage6" / "server"
    assert folders(Kind.NODE, Scope.USER).data == places / "XDG_DATA_HOME" / "vantage6" / "node"


@pytest.mark.row("M02")
@pytest.mark.row("M29")
def test_system_is_honoured_although_a_user_one_has_the_name(places: Path) -> None:
    user, system = put(Kind.NODE, Scope.USER, "north.yaml"), put(Kind.NODE, Scope.SYSTEM, "north.yaml")
    assert find(Kind.NODE, name="north", scope=Scope.SYSTEM).path == system
    assert find(Kind.NODE, name="north").path == user
    assert find(Kind.NODE, name="north", scope=Scope.SYSTEM).folders() != find(Kind.NODE, name="north").folders()


def test_a_server_is_the_systems_unless_said(places: Path) -> None:
    system = put(Kind.SERVER, Scope.SYSTEM, "central.yaml", "environments: {prod: {}, test: {}}\n")
    assert find(Kind.SERVER, name="central").path == system
    assert find(Kind.SERVER, name="central").environment == "prod"


def test_environments_do_not_share_data(places: Path) -> None:
    put(Kind.NODE, Scope.USER, "north.yaml", "application: {}\nenvironments: {test: {}}\n")
    application, test = every(Kind.NODE, name="north")
    assert application.folders().data != test.folders().data


@pytest.mark.row("M24")
def test_what_is_missing_is_said_with_what_is_there(places: Path) -> None:
    with pytest.raises(ContextMissing, match="vnode new --user"):
        find(Kind.NODE)
    put(Kind.NODE, Scope.SYSTEM, "south.yaml")
    with pytest.raises(ContextMissing, match="--system has: south"):
        find(Kind.NODE, name="south")
    put(Kind.NODE, Scope.USER, "north.yaml")
    assert find(Kind.NODE).name == "north"
    put(Kind.NODE, Scope.USER, "west.yaml")
    with pytest.raises(ContextMissing, match="north, west"):
        find(Kind.NODE)
    assert [path.stem for path in configurations(Kind.NODE, Scope.USER)] == ["north", "west"]


@pytest.mark.attack
@pytest.mark.parametrize("name", ["../x", "a/b", "", "-x", "x" * 64, "a\x1b[2J"])
def test_a_name_leaves_no_folder_and_obeys_no_terminal(name: str) -> None:
    with pytest.raises(ConfigError):
        check_name(name)


def test_spaces_become_hyphens() -> None:
    assert check_name("my node") == "my-node"
