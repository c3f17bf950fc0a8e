"""Registries for tests: Debian's real one with TLS and a password, and a stand-in that answers like Harbor v2.0."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import requests

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

    @property
    def credentials(self) -> dict[str, dict[str, str]]:
        """As in a node's configuration."""
        return {self.host: {**self.login, "ca_file": str(self.ca)}}

    def put(self, repository: str, tag: str, layers: list[tuple[str, bytes, dict[str, str]]]) -> str:
        """Stores a manifest with layers (media type, content, annotations) by the OCI API; gives its digest."""
        with requests.Session() as session:
            session.trust_env, session.auth, session.verify = False, (USER, PASSWORD), str(self.ca)
            base = f"https://{self.host}/v2/{repository}"

            def blob(content: bytes) -> dict[str, object]:
                digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
                place = session.post(f"{base}/blobs/uploads/").headers["Location"]
                stored = session.put(place, params={"digest": digest}, data=content)
                assert stored.status_code == 201, stored.text
                return {"digest": digest, "size": len(content)}

            kind = "application/vnd.oci.image"
            manifest = json.dumps({
                "schemaVersion": 2, "mediaType": f"{kind}.manifest.v1+json",
                "config": {"mediaType": f"{kind}.config.v1+json", **blob(b"{}")},
                "layers": [{"mediaType": media, "annotations": notes, **blob(data)} for media, data, notes in layers],
            })  # fmt: skip
            headers = {"Content-Type": f"{kind}.manifest.v1+json"}
            stored = session.put(f"{base}/manifests/{tag}", data=manifest, headers=headers)
            assert stored.status_code == 201, stored.text
            return stored.headers["Docker-Content-Digest"]


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


@dataclass
class Tokens:
    """A registry behind a token service, as the OCI distribution specification has it; `realm` says where that is."""

    digest: str = "sha256:" + "c" * 64
    realm: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    host: str = ""
    ca: Path = Path()

    def answer(self, path: str, authorization: str) -> tuple[int, dict[str, str], object]:
        self.asked.append((path, authorization))
        if path.startswith("/token?"):
            asked = parse_qs(urlsplit(path).query)
            expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
            good = authorization == expected and asked == {"service": ["r"], "scope": ["repository:study/a:pull"]}
            return (200, {}, {"token": "t0ken"}) if good else (401, {}, {"errors": []})
        if authorization == "Bearer t0ken":
            return 200, {"Docker-Content-Digest": self.digest}, {}
        realm = self.realm or f"https://{self.host}/token"
        scheme = f'Bearer realm="{realm}",service="r",scope="repository:study/a:pull,push"'
        return (401, {"WWW-Authenticate": scheme}, {}) if path.startswith("/v2/study/") else (404, {}, {})


@contextmanager
def token_registry(folder: Path) -> Iterator[Tokens]:
    made = Tokens()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = made.answer(self.path, self.headers.get("Authorization", ""))
            _send(self, status, body, headers, self.command != "HEAD")

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    with _served(folder, Handler) as (made.host, made.ca):
        yield made


@contextmanager
def harbor(folder: Path) -> Iterator[Harbor]:
    made = Harbor()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = made.answer(self.path, self.headers.get("Authorization", ""))
            _send(self, status, body)

        def do_HEAD(self) -> None:
            made.asked.append(self.path)
            self.send_response(404)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Says nothing."""

    with _served(folder, Handler) as (made.host, made.ca):
        yield made


def _send(
    to: BaseHTTPRequestHandler, status: int, body: object, headers: Mapping[str, str] | None = None, whole: bool = True
) -> None:
    data = json.dumps(body).encode()
    to.send_response(status)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        to.send_header(name, value)
    to.send_header("Content-Length", str(len(data)))
    to.end_headers()
    if whole:
        to.wfile.write(data)


@contextmanager
def _served(folder: Path, handler: type[BaseHTTPRequestHandler]) -> Iterator[tuple[str, Path]]:
    """With TLS; gives the host and the authority that vouches for it."""
    certificates = make_certificates(folder / "certificates")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.certificate, certificates.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", certificates.ca
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
