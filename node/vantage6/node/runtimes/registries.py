"""What a registry has under an image's name, without fetching it: Harbor's API v2.0, else the OCI distribution API.

Sources: Harbor's swagger v2.0 (`/health`, `/projects/{}/repositories/{}/artifacts/{}`), and the OCI distribution
specification with Docker's token authentication.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import quote

import requests
import urllib3

from vantage6.common.errors import InvalidArgument

log = logging.getLogger(__name__)

Credentials = Mapping[str, str]
"""`username`, `password`, and `ca_file` for a registry whose certificate the machine does not trust by itself."""

Login = tuple[str, str] | None

TIMEOUT = (5.0, 10.0)
"""Seconds to connect, and between two pieces of an answer."""
PROBE_SECONDS = 600.0
MANIFESTS = (
    "application/vnd.docker.distribution.manifest.v2+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, "
    "application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.oci.image.index.v1+json"
)
HUB = "docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_MANIFEST_LIMIT = 4 * 1024 * 1024


class RegistrySilentError(Exception):
    """It gave no answer that says what it has; the text says why, without any secret."""


@dataclass(frozen=True)
class Reference:
    """An image's name taken apart by Docker's rules."""

    host: str
    repository: str
    tag: str = "latest"
    digest: str = ""


def parse(image: str) -> Reference:
    """Raises InvalidArgument for what is no image's name: it comes from strangers."""
    rest, at, digest = image.partition("@")
    first, slash, inner = rest.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        host, path = first, inner
    else:
        host, path = HUB, rest
    name, colon, tag = path.partition(":")
    if host == HUB and "/" not in name:
        name = f"library/{name}"
    good = _HOST.fullmatch(host) and _NAME.fullmatch(name) and (not colon or _TAG.fullmatch(tag))
    if not good or len(image) > 512 or (at and not _DIGEST.fullmatch(digest)):
        raise InvalidArgument("the image's name is none that a registry could have", field="image")
    return Reference(host, name, tag or "latest", digest)


class Registries:
    """Asks registries, each with its own credentials and nobody else's. All calls block, for some seconds at most."""

    def __init__(self, credentials: Mapping[str, Credentials] | None = None) -> None:
        self._credentials = credentials or {}
        self._bases: dict[str, str] = {}
        self._harbors: dict[str, tuple[float, bool]] = {}

    def digest(self, image: str) -> tuple[str, str]:
        """The digest that the name means there now, and who said so; raises RegistrySilentError."""
        reference = parse(image)
        with self._asking(reference.host) as (session, login):
            base = self._base(session, reference.host)
            if self._is_harbor(session, reference.host, base) and (found := _harbor(session, base, reference, login)):
                return found, "Harbor"
            return _distribution(session, base, reference, login), "the registry"

    def greet(self, host: str) -> bool:
        """Whether a registry lets the site in, with the credentials for it if there are some; or raises
        RegistrySilentError."""
        with self._asking(host) as (session, login):
            url = f"{self._base(session, host)}/v2/"
            with _asked(session, "GET", url, Reference(host, ""), login) as answer:
                if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
                    return False
                if answer.status_code != requests.codes.ok:
                    raise RegistrySilentError(f"status {answer.status_code}")
                return True

    def manifest(self, image: str, tag: str) -> bytes | None:
        """The manifest of another tag beside the image, None where there is none; raises RegistrySilentError."""
        return self._read(parse(image), f"manifests/{tag}", _MANIFEST_LIMIT)

    def referrers(self, image: str, digest: str) -> Iterator[bytes | None]:
        """What refers to the image: as the registry tells it, and under the tag for registries that do not."""
        reference = parse(image)
        for what in (f"referrers/{_checked(digest)}", f"manifests/{digest.replace(':', '-')}"):
            yield self._read(reference, what, _MANIFEST_LIMIT)

    def blob(self, image: str, digest: str, limit: int) -> bytes | None:
        """A blob of the image's repository, which is what its digest says; raises RegistrySilentError."""
        data = self._read(parse(image), f"blobs/{_checked(digest)}", limit)
        if data is not None and f"sha256:{hashlib.sha256(data).hexdigest()}" != digest:
            raise RegistrySilentError("it told a content that is none of the digest")
        return data

    def _read(self, reference: Reference, what: str, limit: int) -> bytes | None:
        with self._asking(reference.host) as (session, login):
            url = f"{self._base(session, reference.host)}/v2/{reference.repository}/{what}"
            with _asked(session, "GET", url, reference, login) as answer:
                if answer.status_code == requests.codes.not_found:
                    return None
                if answer.is_redirect:  # Blobs may lie in a store beside the registry, which gets no credentials.
                    place = answer.headers["Location"]
                    if not place.startswith("https://"):
                        raise RegistrySilentError("it sends us to a place without TLS")
                    with session.get(place, timeout=TIMEOUT, allow_redirects=False, stream=True) as elsewhere:
                        return _body(elsewhere, limit)
                return _body(answer, limit)

    @contextmanager
    def _asking(self, host: str) -> Iterator[tuple[requests.Session, Login]]:
        with requests.Session() as session:
            own = self._credentials.get(host, {})
            session.trust_env = False  # No .netrc: what is sent is what the site configured.
            session.proxies = requests.utils.get_environ_proxies(f"https://{host}")
            if own.get("ca_file"):
                session.verify = own["ca_file"]
            try:
                yield session, (own["username"], own.get("password", "")) if own.get("username") else None
            except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
                raise RegistrySilentError(type(error).__name__) from error

    def _base(self, session: requests.Session, host: str) -> str:
        """https, also on this machine if it is there; plain http on this machine only, as the engine does it."""
        if host not in self._bases:
            name = "registry-1.docker.io" if host == HUB else host
            secure, plain = f"https://{name}", f"http://{name}"
            self._bases[host] = secure
            if _is_here(host):
                try:
                    session.get(f"{secure}/v2/", timeout=TIMEOUT, allow_redirects=False)
                except requests.exceptions.SSLError as error:
                    if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                        self._bases[host] = plain
                except requests.RequestException:
                    del self._bases[host]
                    return plain
        return self._bases[host]

    def _is_harbor(self, session: requests.Session, host: str, base: str) -> bool:
        until, known = self._harbors.get(host, (0.0, False))
        if time.monotonic() >= until:
            answer = session.get(f"{base}/api/v2.0/health", timeout=TIMEOUT, allow_redirects=False)
            known = answer.status_code == requests.codes.ok and _is_health(answer)
            self._harbors[host] = (time.monotonic() + PROBE_SECONDS, known)
        return known


def _is_health(answer: requests.Response) -> bool:
    try:
        body = answer.json()
    except ValueError:
        return False
    return isinstance(body, dict) and "status" in body and isinstance(body.get("components"), list)


def _harbor(session: requests.Session, base: str, reference: Reference, login: Login) -> str:
    """The artifact of the tag; empty where Harbor's own API does not say (then the registry below it is asked)."""
    project, _, repository = reference.repository.partition("/")
    # A slash in the repository's name is encoded twice: the gateway in front of Harbor decodes once.
    inner = quote(quote(repository, safe=""), safe="")
    url = f"{base}/api/v2.0/projects/{quote(project, safe='')}/repositories/{inner}/artifacts/{reference.tag}"
    answer = session.get(url, auth=login, timeout=TIMEOUT, allow_redirects=False)
    if answer.status_code != requests.codes.ok:
        log.info("Harbor answers %s for the artifact of %s", answer.status_code, reference.repository)
        return ""
    body = answer.json()
    return _checked(body.get("digest") if isinstance(body, dict) else None)


def _distribution(session: requests.Session, base: str, reference: Reference, login: Login) -> str:
    url = f"{base}/v2/{reference.repository}/manifests/{reference.tag}"
    with _asked(session, "HEAD", url, reference, login) as answer:
        if answer.status_code != requests.codes.ok:
            raise RegistrySilentError(f"status {answer.status_code}")
        if told := answer.headers.get("Docker-Content-Digest"):
            return _checked(told)
    with _asked(session, "GET", url, reference, login) as whole:
        return f"sha256:{hashlib.sha256(_body(whole, _MANIFEST_LIMIT)).hexdigest()}"


def _asked(session: requests.Session, method: str, url: str, reference: Reference, login: Login) -> requests.Response:
    """The answer, its body still to be read; logs in where that is asked for."""
    headers = {"Accept": MANIFESTS if "/manifests/" in url else "*/*"}
    for attempt in range(2):
        answer = session.request(method, url, headers=headers, timeout=TIMEOUT, allow_redirects=False, stream=True)
        if answer.status_code != requests.codes.unauthorized or attempt:
            break
        answer.close()
        headers |= _authorization(session, answer, reference, login)
    return answer


def _body(answer: requests.Response, limit: int) -> bytes:
    body = bytes(answer.raw.read(limit + 1, decode_content=True))
    if answer.status_code != requests.codes.ok or len(body) > limit:
        raise RegistrySilentError(f"status {answer.status_code}, {len(body)} bytes")
    return body


def _authorization(
    session: requests.Session, refused: requests.Response, reference: Reference, login: Login
) -> dict[str, str]:
    kind, _, rest = refused.headers.get("WWW-Authenticate", "").partition(" ")
    if kind.lower() == "basic" and login:
        prepared = requests.Request("HEAD", refused.url, auth=login).prepare()
        return {"Authorization": prepared.headers["Authorization"]}
    challenge = dict(_CHALLENGE.findall(rest))
    realm = challenge.get("realm", "")
    if kind.lower() != "bearer" or not realm.startswith(
        ("https://", "http://" if refused.url.startswith("http:") else "https://")
    ):
        raise RegistrySilentError("it wants a log-in" if not login else "it does not take the log-in")
    asked = {"service": challenge.get("service", "")}
    if reference.repository:
        asked["scope"] = f"repository:{reference.repository}:pull"
    answer = session.get(realm, params=asked, auth=login, timeout=TIMEOUT, allow_redirects=False)
    body = answer.json() if answer.status_code == requests.codes.ok else {}
    token = body.get("token") or body.get("access_token")
    if not isinstance(token, str):
        raise RegistrySilentError("it does not take the log-in")
    return {"Authorization": f"Bearer {token}"}


def _checked(digest: object) -> str:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise RegistrySilentError("it told a digest that is none")
    return digest


def _is_here(host: str) -> bool:
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
