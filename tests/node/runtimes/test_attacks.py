"""What an algorithm must not reach (M06, X09), tried from inside; first shown to work where nothing forbids it.

"Nothing forbids it" is an ordinary container: of the same image, as root, on an ordinary network.
"""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from docker.types import IPAMConfig, IPAMPool

from tests.node.output import read_output

from .conftest import IMAGE, Kit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient

pytestmark = [pytest.mark.attack, pytest.mark.row("M06")]

RANDOM = uuid.uuid4()
NETWORK = f"vantage6-test-{RANDOM.hex[:8]}"  # Several test processes may use one engine.
SUBNET = f"10.213.{RANDOM.int % 256}"
GATEWAY = f"{SUBNET}.1"
METADATA = "169.254.169.254"
OUTSIDE = "198.51.100.77"  # Of the range for documentation: no machine has it.

NEIGHBOUR = """
import socket
server = socket.create_server(("", 80))
while True:
    connection, _ = server.accept()
    connection.sendall(b"hello")
    connection.close()
"""
CONNECT = """
import json, os, socket, sys
def reach(address, port):
    try:
        with socket.create_connection((address, port), timeout=2) as connection:
            return connection.recv(5) == b"hello"
    except OSError:
        return False
targets = json.loads(TARGETS)
answer = {name: reach(*target) for name, target in targets.items()}
"""
RAW = """
import json, os, socket
def opens(*kind):
    try:
        socket.socket(*kind).close()
        return True
    except OSError:
        return False
answer = {
    "icmp": opens(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    "packet": opens(socket.AF_PACKET, socket.SOCK_RAW, 0),
}
"""
WRITABLE = """
import json, os
answer = []
for folder, folders, _ in os.walk("/"):
    if folder.startswith(("/proc", "/sys")):
        folders.clear()
        continue
    try:
        name = os.path.join(folder, "attack")
        open(name, "w").close()
        os.unlink(name)
        answer.append(folder)
    except OSError:
        pass
"""
SEARCH = """
import json, os, stat
answer = []
for folder, folders, names in os.walk("/"):
    if folder.startswith(("/proc", "/sys", "/usr/local", "/opt")):
        folders.clear()
        continue
    for name in names:
        path = os.path.join(folder, name)
        try:
            if stat.S_ISREG(os.lstat(path).st_mode) and MARK in open(path, "rb").read():
                answer.append(path)
        except OSError:
            pass
"""
REPORT = "\nout = os.environ.get('OUTPUT_FILE')\nprint(json.dumps(answer), file=open(out, 'w') if out else None)\n"


def ordinary(engine: DockerClient, program: str, **more: Any) -> Any:
    """The program in a container without any guard."""
    printed = engine.containers.run(
        IMAGE, ["-c", program + REPORT], remove=True, user="0", working_dir="/", network=NETWORK, **more
    )
    return json.loads(printed)


@pytest.fixture
def open_network(engine_images: DockerClient) -> Iterator[DockerClient]:
    """An ordinary network of our own: an engine may have been started without the default one."""
    pool = IPAMPool(subnet=f"{SUBNET}.0/24", gateway=GATEWAY)
    network = engine_images.networks.create(NETWORK, driver="bridge", ipam=IPAMConfig(pool_configs=[pool]))
    yield engine_images
    network.remove()


@contextmanager
def greeter() -> Iterator[int]:
    """A service on every address of this machine."""
    with socket.create_server(("0.0.0.0", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(b"hello")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def addresses(*wanted: str) -> Iterator[None]:
    """Gives this machine addresses of others, so that no test depends on, or talks to, the real ones."""
    name = f"v6t{uuid.uuid4().hex[:8]}"
    made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=False, capture_output=True)
    if made.returncode:
        pytest.skip("this machine lets us make no network device")
    try:
        for address in wanted:
            subprocess.run(["ip", "address", "add", f"{address}/32", "dev", name], check=True)
        subprocess.run(["ip", "link", "set", name, "up"], check=True)
        yield
    finally:
        subprocess.run(["ip", "link", "delete", name], check=True)


@pytest.mark.attack("X09")
@pytest.mark.engine
async def test_no_address_is_reached(kit: Kit, open_network: DockerClient) -> None:
    """Internet, host, bridge gateway, cloud metadata, a neighbour: all answer an ordinary container, none a run."""
    neighbour = open_network.containers.create(
        IMAGE, ["-c", NEIGHBOUR], user="0", detach=True, network=NETWORK, labels={"vantage6-test": "1"}
    )
    try:
        neighbour.start()
        neighbour.reload()
        beside = neighbour.attrs["NetworkSettings"]["Networks"][NETWORK]["IPAddress"]
        with greeter() as port, addresses(METADATA, OUTSIDE):
            targets = {
                "outside": (OUTSIDE, port), "metadata": (METADATA, port), "gateway": (GATEWAY, port),
                "neighbour": (beside, 80),
            }  # fmt: skip
            program = f"TARGETS = {json.dumps(targets)!r}\n{CONNECT}"
            assert ordinary(open_network, program) == dict.fromkeys(targets, True)
            targets["loopback"] = ("127.0.0.1", port)
            program = f"TARGETS = {json.dumps(targets)!r}\n{CONNECT}"
            assert await kit.answer(program + REPORT) == dict.fromkeys(targets, False)
    finally:
        neighbour.remove(force=True)


@pytest.mark.attack("X09")
async def test_there_is_no_network_to_scan(kit: Kit) -> None:
    seen = await kit.answer(
        "import json, os, socket\nanswer = [[name for _, name in socket.if_nameindex()], "
        "open('/proc/net/route').read().splitlines()[1:], open('/proc/net/arp').read().splitlines()[1:]]" + REPORT
    )
    assert seen == [["lo"], [], []] or all(name in {"lo", "tunl0", "sit0", "ip6tnl0"} for name in seen[0])
    assert seen[1:] == [[], []]


async def test_no_name_is_resolved(kit: Kit) -> None:
    seen = await kit.answer(
        """
import json, os, socket
answer = []
for name in ("example.org", "host.docker.internal", "proxy"):
    try:
        answer.append(socket.getaddrinfo(name, 80)[0][4][0])
    except OSError:
        pass
servers = ["8.8.8.8", "127.0.0.11", "127.0.0.53"]
try:
    servers += [line.split()[1] for line in open("/etc/resolv.conf") if line.startswith("nameserver")]
except OSError:
    pass
query = b"\\x12\\x34\\x01\\x00\\x00\\x01\\x00\\x00\\x00\\x00\\x00\\x00\\x07example\\x03org\\x00\\x00\\x01\\x00\\x01"
for server in servers:
    with socket.socket(socket.AF_INET6 if ":" in server else socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.settimeout(1)
        try:
            sender.sendto(query, (server, 53))
            sender.recv(512)
            answer.append(server)
        except OSError:
            pass
"""
        + REPORT
    )
    assert seen == []


@pytest.mark.attack("X09")
@pytest.mark.row("M06")
async def test_no_service_of_the_machine_by_its_socket(kit: Kit) -> None:
    """The engine's socket above all: who may write to it owns the machine. Abstract ones lie in no folder."""
    name = f"vantage6-test-{uuid.uuid4().hex}"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + name)
        listener.listen()
        with socket.socket(socket.AF_UNIX) as control:
            control.connect("\0" + name)
        seen = await kit.answer(
            f"NAME = {name!r}\n"
            """
import json, os, socket
answer = []
for address in ("\\0" + NAME, "/var/run/docker.sock", "/run/docker.sock", "/run/containerd/containerd.sock",
                "/run/systemd/private", "/run/dbus/system_bus_socket"):
    try:
        with socket.socket(socket.AF_UNIX) as caller:
            caller.connect(address)
        answer.append(address)
    except OSError:
        pass
""" + REPORT
        )
    assert seen == []


@pytest.mark.attack("X09")
@pytest.mark.engine
async def test_no_raw_sockets(kit: Kit, open_network: DockerClient) -> None:
    assert ordinary(open_network, RAW) == {"icmp": True, "packet": True}
    assert await kit.answer(RAW + REPORT) == {"icmp": False, "packet": False}


@pytest.mark.attack("X08")
@pytest.mark.engine
async def test_only_its_own_places_are_writable(kit: Kit, open_network: DockerClient) -> None:
    assert "/usr/local/bin" in ordinary(open_network, WRITABLE)
    seen = {place for place in await kit.answer(WRITABLE + REPORT) if not place.startswith("/dev")}
    assert seen == {"/tmp", "/mnt/tmp"}


@pytest.mark.attack("CVE-2026-54533")
@pytest.mark.engine
@pytest.mark.row("M54")
async def test_no_other_runs_files(kit: Kit, open_network: DockerClient) -> None:
    """Another run's input, output and token lie on the same disk, even while it runs."""
    mark = f"secret-{uuid.uuid4().hex}"
    victim = kit.prepare(mark.encode(), mark, run_id=71)
    handle = await kit.start(f"open('/mnt/data/output', 'w').write({mark!r}); import time; time.sleep(30)", victim)
    program = f"MARK = {mark!r}.encode()\n{SEARCH}"
    runs = {str(kit.workspace.root): {"bind": "/mnt", "mode": "ro"}}
    assert len(ordinary(open_network, program, volumes=runs)) >= 2
    assert await kit.answer(program + REPORT, kit.prepare(run_id=72)) == []
    await kit.runtime.stop(handle, 0)


@pytest.mark.attack("X09")
async def test_no_other_processes(kit: Kit) -> None:
    seen = await kit.answer(
        "import json, os\nanswer = [open(f'/proc/{p}/cmdline').read() for p in os.listdir('/proc') if p.isdigit()]"
        "\nanswer = [line for line in answer if 'answer' not in line and 'bwrap' not in line]" + REPORT
    )
    assert seen == []


async def test_no_powers(kit: Kit) -> None:
    seen = await kit.answer(
        """
import ctypes, json, os
libc = ctypes.CDLL(None)
status = dict(line.rstrip().split(":", 1) for line in open("/proc/self/status") if ":" in line)
answer = {key: status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd", "NoNewPrivs", "Seccomp")}
answer["new user namespace"] = libc.unshare(0x10000000) == 0
answer["new mount namespace"] = libc.unshare(0x00020000) == 0
answer["mount"] = libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0
answer["remount"] = libc.mount(b"none", b"/", None, 32, None) == 0
try:
    os.setuid(0)
    answer["root"] = True
except OSError:
    answer["root"] = False
"""
        + REPORT
    )
    seccomp = seen.pop("Seccomp")
    assert seccomp == "2" or kit.kind == "sandbox"
    assert seen.pop("NoNewPrivs") == "1"
    assert {seen.pop(key) for key in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert seen == dict.fromkeys(seen, False)


@pytest.mark.attack("X08")
@pytest.mark.row("M54")
async def test_the_output_cannot_become_something_else(kit: Kit) -> None:
    """A link or a pipe in the output's place would make the node read another file, or wait forever."""
    files = kit.prepare()
    ended = await kit.run(
        """
import os
for trick in (lambda: os.unlink("/mnt/data/output"), lambda: os.rename("/mnt/data/output", "/mnt/data/other"),
              lambda: os.symlink("/etc/passwd", "/mnt/data/new"), lambda: os.mkfifo("/mnt/data/pipe"),
              lambda: os.link("/mnt/data/output", "/mnt/tmp/again"),
              lambda: os.replace("/mnt/tmp/x", "/mnt/data/output")):
    try:
        open("/mnt/tmp/x", "w").close()
        trick()
        print("worked")
    except OSError:
        pass
for name in ("input", "token"):
    try:
        open("/mnt/data/" + name, "w")
        print("worked")
    except OSError:
        pass
""",
        files,
    )
    assert ended.log_tail == b""
    assert read_output(kit.workspace, files, 10) == b""


async def test_ten_million_lines(kit: Kit) -> None:
    ended = await kit.run(
        "import os\ntry:\n  for _ in range(300): os.write(1, b'x' * 99999 + b'\\n')\nexcept OSError: pass", seconds=30
    )
    assert len(ended.log_tail) <= 4096
    if kit.kind == "sandbox":
        assert (kit.folder / kit.node_name).exists()
        total = sum(path.stat().st_size for path in (kit.folder / kit.node_name).rglob("log"))
        assert total <= 4 * 2**20


@pytest.mark.attack("X08")
@pytest.mark.engine
@pytest.mark.parametrize("kit", ["docker"], indirect=True)
async def test_docker_limits_are_set(kit: Kit, open_network: DockerClient) -> None:
    """What the engine itself says of a run's container."""
    handle = await kit.start("import time; time.sleep(30)")
    config = open_network.api.inspect_container(handle)["HostConfig"]
    assert config["NetworkMode"] == "none"
    assert config["ReadonlyRootfs"]
    assert not config["Privileged"]
    assert config["CapDrop"] == ["ALL"]
    assert config["Memory"] == config["MemorySwap"] > 0
    assert config["PidsLimit"] == 32
    assert config["NanoCpus"] == 10**9
    assert config["LogConfig"]["Config"]["max-size"]
    assert not config["Binds"]
    await kit.runtime.stop(handle, 0)
