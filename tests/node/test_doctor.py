"""`vnode check` and `vnode start` with everything that can be wrong: each has its words, its fix and its exit code.

The page of symptoms says the same: docs/troubleshooting.md is compared with what was really printed.
"""

from __future__ import annotations

import gc
import json
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.node import faults
from tests.node.faulty import Said, Site
from tests.node.runtimes.registry import harbor, token_registry
from vantage6.common import background
from vantage6.common.background import Started
from vantage6.common.commands import Code
from vantage6.common.contexts import Kind, find
from vantage6.common.keys import KeyPair
from vantage6.gateway.certificates import make_certificates
from vantage6.node import doctor
from vantage6.node.admin import container
from vantage6.node.app import seat
from vantage6.node.config import load_context
from vantage6.node.doctor_runtime import _engine_version, _judged
from vantage6.node.runtimes.base import ImageMissing
from vantage6.server.cli import main as vserver

PAGE = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"


class Usage(NamedTuple):
    """As shutil.disk_usage says it."""

    total: int
    used: int
    free: int


@contextmanager
def one_site(folder: Path) -> Iterator[Site]:
    """A site with a folder of its own, all of whose settings are right."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        for name in ("CONFIG_HOME", "DATA_HOME", "STATE_HOME", "CACHE_HOME", "CONFIG_DIRS", "DATA_DIRS"):
            patch.setenv(f"XDG_{name}", str(folder / name.lower()))
        for name in ("https_proxy", "http_proxy", "grpc_proxy", "no_proxy"):
            patch.delenv(name, raising=False)
            patch.delenv(name.upper(), raising=False)
        patch.delenv("VANTAGE6_NODE_API_KEY", raising=False)
        server, url = stack.enter_context(faults.server())
        made = Site(folder, stack, patch, server)
        (folder / "patients.csv").write_text("age\n1\n")
        (folder / "patients.csv").chmod(0o644)
        made.settings = {
            "name": "north", "server_url": url, "api_key": faults.API_KEY, "runtime": "null",
            "databases": {"default": {"uri": str(folder / "patients.csv")}},
            "policy": {"allowed_images": ["example/.*"]},
            "directories": {"data": str(folder / "data"), "task": str(folder / "t"), "log": str(folder / "log")},
        }  # fmt: skip
        yield made


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with one_site(tmp_path) as made:
        yield made


def secured(site: Site, *protocols: str) -> dict[str, str]:
    made = make_certificates(site.folder / "tls")
    port = site.stack.enter_context(faults.listening(faults.tls(made.certificate, made.key, *protocols)))
    return {"server_url": f"https://127.0.0.1:{port}", "ca_file": str(made.ca)}


# --- each fault; the name is its own ----------------------------------------------------------------------------------


def misspelt(site: Site) -> Said:
    return site.check(server_ulr="https://x", server_url=None)


def no_yaml(site: Site) -> Said:
    config = site.write()
    config.write_text("application: [\n")
    return site.run("check", "--config", str(config))


def not_there(site: Site) -> Said:
    place = site.folder / "config_dirs" / "vantage6" / "node"
    place.mkdir(parents=True)
    (place / "north.yaml").write_text("application: {}\n")
    return site.run("start", "--name", "north")


def no_permission(site: Site) -> Said:
    config = site.write()
    config.chmod(0)
    with faults.nobody():
        return site.run("check", "--config", str(config))


def second_start(site: Site) -> Said:
    config = load_context(find(Kind.NODE, config=site.write()))
    with seat(config).taken("node", state="online"):
        return site.start()


def nothing_to_stop(site: Site) -> Said:
    return site.run("stop", "--config", str(site.write()))


def no_engine(site: Site) -> Said:
    with warnings.catch_warnings():
        # Where nobody listens the SDK forgets to close its socket; no later test shall be blamed for it.
        warnings.simplefilter("ignore", ResourceWarning)
        said = site.start(runtime="docker", runtime_options={"base_url": "unix:///no.sock"})
        gc.collect()
    return said


def no_image(site: Site) -> Said:
    class Client:
        def close(self) -> None:
            """Was never open."""

    def ensure(self: object, image: str, report: object) -> str:
        raise ImageMissing(f"image {image} cannot be fetched: no such host", image=image)

    site.patch.setattr(container, "engine", lambda _: Client())
    site.patch.setattr("vantage6.node.admin.container.ImageStore.ensure", ensure)
    site.patch.setattr("vantage6.node.admin.starting.running", lambda *_: None)
    return site.start("--no-check", "--image", "reg.example/node:1", runtime="docker")


def no_address(site: Site) -> Said:
    return site.start(server_url="https://no-such-host.invalid")


def server_down(site: Site) -> Said:
    return site.start(server_url=f"https://127.0.0.1:{faults.free_port()}")


def not_trusted(site: Site) -> Said:
    return site.start(**{**secured(site, "h2"), "ca_file": None})


def no_ca_file(site: Site) -> Said:
    return site.start(**{**secured(site, "h2"), "ca_file": str(site.folder / "gone.pem")})


def no_http2(site: Site) -> Said:
    return site.start(**secured(site))


def no_tls(site: Site) -> Said:
    port = site.stack.enter_context(faults.listening(faults.says(b"HTTP/1.1 400 Bad Request\r\n\r\n")))
    return site.start(server_url=f"https://127.0.0.1:{port}")


def closed_proxy(site: Site) -> Said:
    port = site.stack.enter_context(faults.listening(faults.says(b"HTTP/1.1 403 Forbidden\r\n\r\n")))
    site.patch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    return site.start(server_url="https://server.example")


def no_such_proxy(site: Site) -> Said:
    site.patch.setenv("https_proxy", "http://no-such-proxy.invalid:3128")
    return site.start(server_url="https://server.example")


def wrong_api_key(site: Site) -> Said:
    return site.start(api_key="another")


def no_api_key(site: Site) -> Said:
    return site.start(api_key=None, api_key_file=str(site.folder / "gone"))


def other_key_pair(site: Site) -> Said:
    KeyPair.generate().save(site.folder / "key.pem")
    site.server.public_key = KeyPair.generate().public.to_pem()
    return site.start(private_key=str(site.folder / "key.pem"))


def no_private_key(site: Site) -> Said:
    return site.start(private_key=str(site.folder / "gone.pem"))


def clock(site: Site) -> Said:
    site.server.wrong_by = timedelta(hours=1)
    return site.start()


def closed_database(site: Site) -> Said:
    (site.folder / "patients.csv").chmod(0o600)
    return site.start()


def no_database(site: Site) -> Said:
    return site.start(databases={"default": {"uri": str(site.folder / "gone.csv")}})


def full_disk(site: Site) -> Said:
    site.patch.setattr("vantage6.node.doctor.shutil.disk_usage", lambda _: Usage(10**12, 10**12, 10**8))
    return site.start()


def folder_is_a_file(site: Site) -> Said:
    (site.folder / "data").write_text("")
    return site.start()


def registry_log_in(site: Site) -> Said:
    site.patch.setattr(doctor, "check_runtime", nothing)
    made = site.stack.enter_context(harbor(site.folder))
    made.answer = lambda path, authorization: (401, {})  # type: ignore[method-assign]
    options = {"registries": {made.host: {"username": "u", "password": "p", "ca_file": str(made.ca)}}}
    return site.check(runtime="docker", runtime_options=options)


def silent_registry(site: Site) -> Said:
    site.patch.setattr(doctor, "check_runtime", nothing)
    return site.check(runtime="docker", runtime_options={"registries": {f"127.0.0.1:{faults.free_port()}": {}}})


async def nothing(*_: object, **__: object) -> list[Any]:
    return []


def nothing_allowed(site: Site) -> Said:
    return site.check(policy={})


def not_online_in_time(site: Site) -> Said:
    def begin(command: object, log: Path, seconds: float) -> Started:
        log.parent.mkdir(parents=True)
        log.write_text("link_lost reason=UNAVAILABLE\n")
        return Started(ok=False, facts={}, pid=4711)

    site.patch.setattr(background, "start", begin)
    return site.start("--no-check", "--wait", "0.2")


def port_taken(site: Site) -> Said:
    port = site.stack.enter_context(faults.listening(faults.says(b"")))
    config = site.folder / "central.yaml"
    config.write_text(f"application: {{address: '127.0.0.1:{port}', root_password_file: root}}\n")
    return site.run("start", "--foreground", "--config", str(config), main=vserver)


def database_away(site: Site) -> Said:
    config = site.folder / "central.yaml"
    uri = f"postgresql+asyncpg://u:hunter2@127.0.0.1:{faults.free_port()}/x"
    config.write_text(f"application: {{uri: '{uri}'}}\n")
    said = site.run("migrate", "--config", str(config), main=vserver)
    assert "hunter2" not in said.text
    return said


def exists(site: Site) -> Said:
    given = ("new", "--user", "--name", "x", "--address", "127.0.0.1:1", "--uri", "", "--root-email", "a@b.example",
             "--yes")  # fmt: skip
    assert site.run(*given, main=vserver).code == Code.OK
    return site.run(*given, main=vserver)


FAULTS: dict[Callable[[Site], Said], tuple[Code, str]] = {
    misspelt: (Code.CONFIG, "did you mean 'server_url'"),
    no_yaml: (Code.CONFIG, "is no valid YAML: line 2"),
    not_there: (Code.CONFIG, r"does not exist in the user folder .*\(--system has: north\)"),
    no_permission: (Code.CONFIG, "cannot be read: Permission denied"),
    second_start: (Code.RUNNING, "runs already .*'vnode restart' starts it anew"),
    nothing_to_stop: (Code.NOT_RUNNING, "does not run; there was nothing to stop"),
    no_engine: (Code.ENGINE, "engine: Docker does not answer.*Fix: start Docker"),
    no_image: (Code.ENGINE, "image reg.example/node:1 cannot be fetched.*--image.*--local"),
    no_address: (Code.UNREACHABLE, "name resolution: no-such-host.invalid has no address.*Fix: check server_url"),
    server_down: (Code.UNREACHABLE, "connection: 127.0.0.1:.*Connection refused.*Fix: is the server up"),
    not_trusted: (Code.UNREACHABLE, "TLS: the certificate is not trusted.*Fix: set ca_file"),
    no_ca_file: (Code.CHECK, "TLS: ca_file .*gone.pem.*Fix: point ca_file"),
    no_http2: (Code.UNREACHABLE, "TLS: TLSv1.3, but without HTTP/2.*must let HTTP/2 pass"),
    no_tls: (Code.CHECK, "TLS: 127.0.0.1 does not answer with TLS"),
    closed_proxy: (Code.UNREACHABLE, "connection: server.example:443: the proxy says 'HTTP/1.1 403 Forbidden'"),
    no_such_proxy: (Code.UNREACHABLE, "proxy: no-such-proxy.invalid has no address"),
    wrong_api_key: (Code.REFUSED, "API key: the server does not know it.*'vnode set-api-key'"),
    no_api_key: (Code.REFUSED, "API key: api_key_file: .*gone cannot be read"),
    other_key_pair: (Code.REFUSED, "key pair: .* is .*, the server shows .*Fix: copy the organization's private key"),
    no_private_key: (Code.CHECK, "private key: .*gone.pem does not exist.*Fix: run 'vnode create-private-key'"),
    clock: (Code.CHECK, r"clock: 3[56]\d\d s away from the server's.*Fix: set the clock by NTP"),
    closed_database: (Code.CHECK, "database default: .*is closed to algorithms"),
    no_database: (Code.CHECK, "database default: .*gone.csv"),
    full_disk: (Code.CHECK, r"data folder: .* \(0.1 GiB free\).*Fix: make room"),
    folder_is_a_file: (Code.CHECK, "data folder: .*: (File exists|Not a directory).*Fix: give the node's user"),
    registry_log_in: (Code.REFUSED, "failed +registry 127.0.0.1:.* it does not take the log-in|it wants a log-in"),
    silent_registry: (Code.OK, "warning +registry 127.0.0.1:.* it does not answer as a registry"),
    nothing_allowed: (Code.OK, "warning +policy: no image is allowed, every run will be refused"),
    not_online_in_time: (Code.TIMEOUT, "was started .* but is not online after 0.2 s; it goes on trying"),
    port_taken: (Code.PORT, "cannot be listened on: another program has the port"),
    database_away: (Code.UNREACHABLE, "the database cannot be reached: .*Connect"),
    exists: (Code.EXISTS, "has an environment 'prod' already; it was left alone"),
}
_said: dict[str, Said] = {}


@pytest.mark.row("M24")
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_each_fault_has_its_words_its_fix_and_its_code(site: Site, fault: Callable[[Site], Said]) -> None:
    code, words = FAULTS[fault]
    said = _said[fault.__name__] = fault(site)
    assert re.search(words, said.text, re.DOTALL), said.text
    assert said.code == code, said.text


def test_a_site_in_order_is_ready(site: Site) -> None:
    said = site.check()
    assert said.code == Code.OK, said.text
    for what in ("configuration", "task folder", "log folder", "data folder", "database default", "policy", "server",
                 "clock", "API key", "key pair"):  # fmt: skip
        assert re.search(rf"^ok +{what}: ", said.text, re.MULTILINE), what
    plain = json.loads(site.run("check", "--json", "--config", str(site.write())).text.split("\n[", 1)[0])
    assert plain["good"]
    assert {"what", "outcome", "detail", "fix", "kind"} == set(plain["findings"][0])


def test_a_registry_that_takes_the_log_in_is_said(site: Site) -> None:
    site.patch.setattr(doctor, "check_runtime", nothing)
    made = site.stack.enter_context(token_registry(site.folder))
    made.answer = lambda path, authorization: (200, {}, {})  # type: ignore[method-assign]
    options = {"registries": {made.host: {"ca_file": str(made.ca)}}}
    assert f"ok       registry {made.host}" in site.check(runtime="docker", runtime_options=options).text


def test_a_proxy_that_lets_through_is_named(site: Site) -> None:
    port = site.stack.enter_context(faults.listening(faults.says(b"HTTP/1.1 200 OK\r\n\r\n")))
    site.patch.setenv("https_proxy", f"http://127.0.0.1:{port}")
    said = site.check(server_url="https://server.example")
    assert "ok       proxy: 127.0.0.1 is 127.0.0.1, the proxy to server.example:443" in said.text
    assert "TLS: server.example does not answer with TLS" in said.text  # It was only the proxy that answered.


def test_an_old_engine_is_named() -> None:
    assert _engine_version("19.03.1", "1.40").outcome == "warning"
    assert _engine_version("20.10.24+dfsg1", "1.41").outcome == "ok"


@pytest.mark.attack
@pytest.mark.row("M06")
@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"reached": ["1.1.1.1:443"]}, "it reached 1.1.1.1:443"),
        ({"resolves": True}, "it resolves names"),
        ({"links": ["eth0"]}, "it has the network link eth0"),
        ({"root": True}, "it runs as root"),
        ({"writes": True}, "it can write to its image"),
        ({"engine": True}, "it sees the engine's socket"),
    ],
)
def test_a_container_that_is_not_kept_in_fails_the_check(seen: dict[str, Any], words: str) -> None:
    good = {"reached": [], "resolves": False, "links": [], "routes": 0, "root": False, "writes": False, "engine": False}
    assert _judged(json.dumps(good).encode()).outcome == "ok"
    found = _judged(json.dumps({**good, **seen}).encode())
    assert (found.outcome, found.detail) == ("failed", words)
    assert _judged(b"").outcome == "failed"


def test_the_page_of_symptoms_says_what_is_really_said(tmp_path: Path) -> None:
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        for line in PAGE.read_text().splitlines()
        if line.startswith("| ") and "`" in line
    ]
    assert len(rows) >= len(FAULTS)
    for fault in FAULTS:
        if fault.__name__ not in _said:  # Where the tests are shared out, or one is run alone.
            folder = tmp_path / fault.__name__
            folder.mkdir()
            with one_site(folder) as site:
                _said[fault.__name__] = fault(site)
    for symptom, words, code, _ in rows:
        spoken = re.findall(r"`([^`]+)`", words)[0]
        pattern = re.compile(".*".join(re.escape(part) for part in spoken.split("…")), re.DOTALL)
        wanted = Code.OK if code == "0" else int(code)
        assert any(said.code == wanted and pattern.search(said.text) for said in _said.values()), (symptom, spoken)
    named = "\n".join(words for _, words, _, _ in rows)
    assert len(set(re.findall(r"`([^`]+)`", named))) >= len(FAULTS), "a fault that the page does not know"
