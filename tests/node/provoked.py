"""Everything that can be wrong around a node or a server; the name of each says what. With its words and its code."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from tests.node import faults
from tests.node.faulty import Said, Site
from tests.node.runtimes.registry import harbor
from tests.proxy import tunnels
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
from vantage6.node.runtimes.base import ImageMissing
from vantage6.server.cli import main as vserver


class Usage(NamedTuple):
    """As shutil.disk_usage says it."""

    total: int
    used: int
    free: int


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
    site.patch.setattr("vantage6.node.admin.container.running", lambda *_: None)
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


def proxy_wants_log_in(site: Site) -> Said:
    proxy = site.stack.enter_context(tunnels("Basic something"))
    site.patch.setenv("https_proxy", f"http://ada:hunter2@127.0.0.1:{proxy.port}")
    said = site.start(server_url="https://server.example")
    assert "hunter2" not in said.text
    return said


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


def full_at_the_start(site: Site) -> Said:
    """A real one, as the journal meets it."""
    with faults.full(site.folder / "data"):
        said = site.start("--no-check", "--foreground")
        assert (site.folder / "data" / "filler").exists()
    return said


def server_full_at_the_start(site: Site) -> Said:
    config = site.folder / "central.yaml"
    config.write_text("application: {address: '127.0.0.1:0', data_dir: data}\n")
    with faults.full(site.folder / "data"):
        return site.run("start", "--foreground", "--config", str(config), main=vserver)


def file_gone(site: Site) -> Said:
    return site.run("start", "--config", str(site.folder / "gone.yaml"))


def closed_folder(site: Site) -> Said:
    """The kernel's, which is closed even to root."""
    return site.start(directories={"data": "/sys/kernel/closed", "log": str(site.folder), "task": str(site.folder)})


def wrong_runtime_option(site: Site) -> Said:
    return site.start(runtime="docker", runtime_options={"registry": {}})


def distant_engine(site: Site) -> Said:
    site.patch.setenv("DOCKER_HOST", "tcp://engine.example:2376")
    return site.start("--no-check", runtime="docker")


def registry_password_gone(site: Site) -> Said:
    site.patch.setattr(doctor, "check_runtime", nothing)
    login = {"username": "u", "password_file": str(site.folder / "gone")}
    return site.check(runtime="docker", runtime_options={"registries": {"registry.example": login}})


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
    no_yaml: (Code.YAML, "is no valid YAML: line 2"),
    not_there: (Code.MISSING, r"does not exist in the user folder .*\(--system has: north\)"),
    no_permission: (Code.PERMISSION, "cannot be read: Permission denied"),
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
    closed_proxy: (Code.UNREACHABLE, "proxy: 127.0.0.1:.*: the proxy says 'HTTP/1.1 403 Forbidden'"),
    proxy_wants_log_in: (
        Code.UNREACHABLE,
        "the proxy says 'HTTP/1.1 407 .*Fix: name its user and password",
    ),
    no_such_proxy: (Code.UNREACHABLE, "proxy: no-such-proxy.invalid has no address"),
    wrong_api_key: (Code.REFUSED, "API key: the server does not know it.*'vnode set-api-key'"),
    no_api_key: (Code.REFUSED, "API key: api_key_file: .*gone cannot be read"),
    other_key_pair: (Code.REFUSED, "key pair: .* is .*, the server shows .*Fix: copy the organization's private key"),
    no_private_key: (Code.CHECK, "private key: .*gone.pem does not exist.*Fix: run 'vnode create-private-key'"),
    clock: (Code.CLOCK, r"clock: 3[56]\d\d s away from the server's.*Fix: set the clock by NTP"),
    closed_database: (Code.CHECK, "database default: .*is closed to algorithms"),
    no_database: (Code.CHECK, "database default: .*gone.csv"),
    full_disk: (Code.DISK, r"data folder: .* \(0.1 GiB free\).*Fix: make room"),
    full_at_the_start: (Code.DISK, "the disk is full.*make room"),
    server_full_at_the_start: (Code.DISK, "the disk is full.*make room"),
    file_gone: (Code.MISSING, "configuration file .*gone.yaml cannot be read: No such file"),
    closed_folder: (Code.PERMISSION, "data folder: /sys/kernel/closed: .*Fix: give the node's user"),
    wrong_runtime_option: (
        Code.CONFIG,
        r"runtime_options.registry\): unknown key 'registry'; did you mean 'registries'",
    ),
    distant_engine: (Code.ENGINE, "the engine is at tcp://engine.example:2376: .* an engine on this machine only"),
    registry_password_gone: (
        Code.REFUSED,
        "registry: password_file of registry registry.example: .*gone cannot be read",
    ),
    folder_is_a_file: (Code.CHECK, "data folder: .*: (File exists|Not a directory).*Fix: give the node's user"),
    registry_log_in: (Code.REFUSED, "failed +registry 127.0.0.1:.* it does not take the log-in|it wants a log-in"),
    silent_registry: (Code.OK, "warning +registry 127.0.0.1:.* it does not answer as a registry"),
    nothing_allowed: (Code.OK, "warning +policy: no image is allowed, every run will be refused"),
    not_online_in_time: (Code.TIMEOUT, "was started .* but is not online after 0.2 s; it goes on trying"),
    port_taken: (Code.PORT, "cannot be listened on: another program has the port"),
    database_away: (Code.UNREACHABLE, "the database cannot be reached: .*Connect"),
    exists: (Code.EXISTS, "has an environment 'prod' already; it was left alone"),
}
