"""What is rendered, looked at without starting anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from vantage6.common.settings import ConfigError
from vantage6.gateway.config import GatewayConfig, Tls, load
from vantage6.gateway.contract import bindings, services
from vantage6.gateway.render import render

PLAIN = GatewayConfig(plaintext=True)


def manager(config: GatewayConfig) -> dict[str, object]:
    chain = render(config)["static_resources"]["listeners"][0]["filter_chains"][0]
    return dict(chain["filters"][0]["typed_config"])


def test_services_with_rest_paths_are_transcoded_and_no_others() -> None:
    named = services(bindings(PLAIN.descriptors))
    assert "vantage6.api.v1.OrganizationService" in named
    assert not {"vantage6.api.v1.DeliveryService", "vantage6.api.v1.AlgorithmService"} & set(named)
    assert len(named) == 12


def test_every_rest_path_is_behind_the_door() -> None:
    paths = [binding.path for binding in bindings(PLAIN.descriptors)]
    assert len(paths) > 50
    assert all(path == "/api" or path.startswith("/api/") for path in paths)


def test_resources_are_created_with_201_and_tokens_are_not() -> None:
    creating = {binding.path for binding in bindings(PLAIN.descriptors) if binding.creates}
    assert {"/api/organization", "/api/collaboration", "/api/node", "/api/user", "/api/task", "/api/role"} <= creating
    assert not [path for path in creating if "token" in path]


def test_there_is_no_administration_interface_unless_asked_for_and_never_a_port() -> None:
    assert "admin" not in render(PLAIN)
    address = render(PLAIN, admin_socket=Path("/run/x"))["admin"]["address"]
    assert address == {"pipe": {"path": "/run/x", "mode": 0o600}}


def test_cors_is_off_by_default() -> None:
    assert "CorsPolicy" not in json.dumps(render(PLAIN))
    assert "upgrade_configs" not in manager(PLAIN)


def test_no_limit_of_envoys_own_stops_ten_thousand_nodes() -> None:
    (cluster,) = render(PLAIN)["static_resources"]["clusters"]
    (threshold,) = cluster["circuit_breakers"]["thresholds"]
    assert min(threshold.values()) > 100_000


def test_several_servers_are_watched_and_a_single_one_is_never_taken_out() -> None:
    (one,) = render(PLAIN)["static_resources"]["clusters"]
    (two,) = render(GatewayConfig(plaintext=True, servers=("10.0.0.1:1", "10.0.0.2:1")))["static_resources"]["clusters"]
    assert "outlier_detection" not in one
    assert {"health_checks", "outlier_detection"} <= set(two)
    assert (one["type"], two["type"]) == ("STATIC", "STATIC")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"plaintext": False}, "tls is missing"),
        ({"cors_origins": ("*",)}, "not of the form"),
        ({"cors_origins": ("https://a.example/",)}, "not of the form"),
        ({"servers": ()}, "at least 1"),
        ({"listen": "8443"}, "pattern"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        GatewayConfig.model_validate({"plaintext": True} | changes)


def test_paths_in_the_file_are_relative_to_it(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text("listen: '[::1]:8443'\ntls: {certificate: c.pem, key: k.pem}\naccess_log: access.log\n")
    config = load(file)
    assert config.tls == Tls(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
    assert config.access_log == tmp_path / "access.log"
    assert config.descriptors.is_file()


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("application:\n  name: central\n  address: 0.0.0.0:5077\n  gateway: {plaintext: true}\n", ("127.0.0.1:5077",)),
        ("application:\n  address: '[::]:5077'\n  gateway: {plaintext: true}\n", ("[::1]:5077",)),
        ("application:\n  gateway: {plaintext: true}\n", ("127.0.0.1:5001",)),
        ("application: {gateway: {plaintext: true, servers: ['a:1', 'b:2']}}\n", ("a:1", "b:2")),
        ("application: {}\nenvironments: {prod: {address: 'b:2', gateway: {plaintext: true}}}\n", ("b:2",)),
    ],
)
def test_the_servers_own_file_says_what_stands_behind(tmp_path: Path, text: str, servers: tuple[str, ...]) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    assert load(file).servers == servers


def test_an_environment_of_the_servers_file_can_be_chosen(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("application: {gateway: {plaintext: true}}\nenvironments: {test: {address: 't:3', gateway: {}}}\n")
    with pytest.raises(ValidationError, match="tls is missing"):
        load(file, "test")
    with pytest.raises(ConfigError, match="no environment 'acc'"):
        load(file, "acc")


@pytest.mark.attack("X13")
@pytest.mark.parametrize(
    "text",
    ["listen: !!python/object/apply:os.system ['true']", "a: &a [x]\nlisten: *a", "[" * 100_000, "#" * 1024 * 1025, ""],
)
def test_files_that_construct_expand_or_are_huge_are_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load(file)
