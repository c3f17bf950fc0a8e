"""Registries for tests: Debian's real one with TLS and a password, and a stand-in that answers like Harbor v2.0."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from vantage6.gateway.certificates import make_certificates

USER, PASSWORD = "alice", "s3cret"
HASH = "alice:$2y$05$CmPslfanSJ/tefeLmnkkyOXOyvYd.N7EyASXSwqUL9ydRN1r5Pz6q"
"""bcrypt of the above, the one form that the registry reads."""


class RegistryMissingError(Exception):
    """The text says why there is none."""


@dataclass(frozen=True)
class Registry:
    host: str
    ca: Path
    log: Path

    @property
    def login(self) -> dict[str, str]:
        return {"username": USER, "password": PASSWORD}


@contextmanager
def real(folder: Path) -> Iterator[Registry]:
    program = shutil.which("docker-registry")
    if program is None:
        raise RegistryMissingError("docker-registry is not installed (Debian's package of that name)")
    certificates = make_certificates(folder / "certificates")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
    (folder / "htpasswd").write_text(f"{HASH}\n")
    config = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {
            "addr": host,
            "tls": {"certificate": str(certificates.certificate), "key": str(certificates.key)},
        },
        "auth": {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(config))
    log = folder / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", str(folder / "config.yml")], stdout=output, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        try:
            for line in process.stderr:
                output.write(line)
                if b"listening on" in line:
                    break
            drain = threading.Thread(target=lambda: output.writelines(process.stderr or ()), daemon=True)
            drain.start()
            yield Registry(host, certificates.ca, log)
        finally:
            process.terminate()
            process.wait(20)
            drain.join(5)
            process.stderr.close()


@dataclass
class Harbor:
    """`artifacts`: "project/repository:tag" to digest."""

    artifacts: dict[str, str] = field(default_factory=dict)
    health: str = "healthy"
    asked: list[str] = field(default_factory=list)
    host: str = ""
    ca: Path = Path()

    def answer(self, path: str, authorization: str) -> tuple[int, object]:
        self.asked.append(path)
        if path == "/api/v2.0/health":
            return 200, {"status": self.health, "components": [{"name": "core", "status": "healthy"}]}
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if authorization != expected:
            return 401, {"errors": [{"code": "UNAUTHORIZED", "message": "unauthorized"}]}
        for name, digest in self.artifacts.items():
            repository, _, tag = name.partition(":")
            project, _, inner = repository.partition("/")
            inner = inner.replace("/", "%252F")
            if path == f"/api/v2.0/projects/{project}/repositories/{inner}/artifacts/{tag}":
                return 200, {"id": 7, "type": "IMAGE", "digest": digest, "size": 123, "tags": [{"name": tag}]}
        return 404, {"errors": [{"code": "NOT_FOUND", "message": f"artifact {path} not found"}]}


@contextmanager
def harbor(folder: Path) -> Iterator[Harbor]:
    made = Harbor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.answer(self.path, self.headers.get("Authorization", ""))
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_HEAD(self) -> None:
            made.asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    certificates = make_certificates(folder / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    made.host, made.ca = f"127.0.0.1:{server.server_address[1]}", certificates.ca
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
