"""Through a proxy of the site, which may want a log-in: `vnode check`, and the node itself."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.node import faults
from tests.node.faulty import Site, one_site
from tests.node.site import SiteUnderTest
from tests.proxy import tunnels
from vantage6.common.commands import Code
from vantage6.common.proxies import VARIABLES
from vantage6.gateway.certificates import make_certificates

SECRET = "p@ss:word"
BASIC = f"Basic {b64encode(f'ada:{SECRET}'.encode()).decode()}"
LOGIN = "ada:p%40ss:word"
NAME = "only-the-proxy-knows.invalid"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def admin(tmp_path: Path) -> Iterator[Site]:
    with one_site(tmp_path) as made:
        yield made


@pytest.mark.parametrize("variable", ["https_proxy", "HTTPS_PROXY", ""])
async def test_a_node_is_online_through_a_proxy_that_wants_a_log_in(
    site: SiteUnderTest, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with tunnels(BASIC) as proxy:
        url = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        if variable:
            monkeypatch.setenv(variable, url)
        else:
            site.settings["proxy"] = url
        site.settings["server_url"] = f"http://{NAME}:{site.server.port}"
        await site.online()
        assert proxy.asked[0].startswith(f"CONNECT {NAME}:{site.server.port} HTTP/1.1\r\n")
        await site.close()


@pytest.mark.parametrize("configured", [True, False])
def test_the_check_goes_the_same_way(admin: Site, configured: bool) -> None:
    port = admin.settings["server_url"].rpartition(":")[2]
    with tunnels(BASIC) as proxy:
        url = f"http://{LOGIN}@127.0.0.1:{proxy.port}"
        if not configured:
            admin.patch.setenv("HTTPS_PROXY", url)
        said = admin.check(server_url=f"http://{NAME}:{port}", proxy=url if configured else None)
        assert said.code == Code.OK, said.text
        assert len(proxy.asked) == 2  # Of the step before TLS, and of the calls.
        assert f"ok       proxy: 127.0.0.1 is 127.0.0.1, the proxy to {NAME}:{port}" in said.text
        assert "ok       API key: the server accepts it" in said.text
        assert SECRET not in said.text
        assert "p%40ss" not in said.text


def test_what_follows_the_proxy_s_answer_is_the_server_s(admin: Site) -> None:
    made = make_certificates(admin.folder / "tls", (NAME,))
    port = admin.stack.enter_context(faults.listening(faults.tls(made.certificate, made.key, "h2")))
    with tunnels() as proxy:
        admin.patch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
        said = admin.check(server_url=f"https://{NAME}:{port}", ca_file=str(made.ca))
    assert "ok       TLS: TLSv1.3 with HTTP/2, certificate is good" in said.text


def test_a_proxy_that_no_one_could_use_is_a_wrong_setting(admin: Site) -> None:
    said = admin.check(proxy=f"socks5://{LOGIN}@127.0.0.1:1080")
    assert said.code == Code.CONFIG
    assert "(application.proxy): key 'proxy': the proxy" in said.text
    assert "p%40ss" not in said.text


@pytest.mark.parametrize(("runtime", "warned"), [("docker", True), ("null", False)])
def test_a_place_that_a_container_does_not_reach_is_said(admin: Site, runtime: str, warned: bool) -> None:
    said = admin.check(runtime=runtime)
    assert ("127.0.0.1 is this machine, and a node in a container is another one" in said.text) is warned
