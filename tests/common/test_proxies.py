"""Which proxy is taken, from the configuration and from the environment."""

from __future__ import annotations

import pytest

from vantage6.common.channel import Endpoint
from vantage6.common.errors import InvalidArgument
from vantage6.common.proxies import VARIABLES, authorization, check_proxy, place_of, proxy_for

P, OTHER = "http://proxy.example:3128", "http://other.example:3128"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "configured", "taken"),
    [
        ({}, "", ""),
        ({}, P, P),
        ({"https_proxy": P}, "", P),
        ({"HTTPS_PROXY": P}, "", P),
        ({"HTTP_PROXY": P}, "", P),
        ({"https_proxy": OTHER, "grpc_proxy": P, "HTTPS_PROXY": OTHER}, "", P),
        ({"https_proxy": "proxy.example:3128"}, "", P),
        ({"https_proxy": OTHER}, P, P),
        ({"https_proxy": P, "no_proxy": "server.example"}, "", ""),
        ({"https_proxy": P, "NO_PROXY": ".hospital.example, .EXAMPLE"}, "", ""),
        ({"https_proxy": P, "no_proxy": "*"}, "", ""),
        ({"https_proxy": P, "no_proxy": "ver.example,10.0.0.0/8,,"}, "", P),
        ({"https_proxy": P, "no_grpc_proxy": "x", "no_proxy": "server.example"}, "", P),
        ({"no_proxy": "server.example"}, P, ""),
    ],
)
def test_the_proxy_is_the_configured_one_or_the_environment_s(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], configured: str, taken: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for("server.example", configured) == taken
    assert Endpoint("https://server.example", proxy=configured).way == taken
    assert Endpoint("unix:/socket", proxy=configured).way == ""


@pytest.mark.parametrize(("host", "way"), [("10.1.2.3", ""), ("11.1.2.3", P), ("fe80::1", ""), ("ten.example", P)])
def test_networks_are_reached_directly(monkeypatch: pytest.MonkeyPatch, host: str, way: str) -> None:
    monkeypatch.setenv("no_proxy", "10.0.0.0/8, fe80::/16")
    assert proxy_for(host, P) == way


@pytest.mark.attack
@pytest.mark.parametrize(
    "url", ["socks5://u:hunter2@x:1", "https://u:hunter2@x:1", "http://u:hunter2@:1", "http://u:hunter2@x:99999"]
)
def test_a_proxy_of_another_kind_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidArgument, match="write it as http://host:port") as caught:
        check_proxy(url)
    assert "hunter2" not in caught.value.message
    assert "hunter2" not in repr(Endpoint("https://x", proxy=url))


def test_user_and_password_are_sent_as_they_are() -> None:
    url = "http://ada:p%40ss@proxy.example"
    assert place_of(url) == ("proxy.example", 80)
    assert authorization(url) == "Proxy-Authorization: Basic YWRhOnBAc3M=\r\n"
    assert authorization(P) == ""
