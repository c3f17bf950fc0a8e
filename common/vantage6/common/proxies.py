"""Which HTTP proxy stands before a server: the configured one, else the environment's, as curl reads it.

gRPC would look by itself, but only for names in small letters; so that what is tested and what is used never differ,
it is told (see `channel`).
"""

from __future__ import annotations

import base64
import ipaddress
import os
from urllib.parse import SplitResult, unquote, urlsplit

from vantage6.common.errors import InvalidArgument

_PROXIES = ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY")
_DIRECT = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
VARIABLES = (*_PROXIES, *_DIRECT)
"""What decides, the first that is set; a container has them only if it is given them."""


def proxy_for(host: str, configured: str = "") -> str:
    """The URL of the proxy to a host, with its user and password; empty for the direct way."""
    given = configured or _first(_PROXIES)
    return "" if not given or _is_direct(host, _first(_DIRECT)) else check_proxy(given)


def check_proxy(url: str) -> str:
    """The proxy's URL in the one form that gRPC understands. What is wrong is said without the URL: it may hold a
    password."""
    url = url if "://" in url else f"http://{url}"
    try:
        parts = urlsplit(url)
        good = parts.scheme == "http" and parts.hostname and (parts.port or 80)
    except ValueError:
        good = False
    if not good:
        text = "write it as http://host:port or http://user:password@host:port, other kinds cannot be used"
        raise InvalidArgument(f"the proxy (as configured, or https_proxy in the environment): {text}")
    return url


def place_of(proxy: str) -> tuple[str, int]:
    """Its host and port."""
    parts = urlsplit(proxy)
    return parts.hostname or "", parts.port or 80


def authorization(proxy: str) -> str:
    """The header with which it lets us in; empty where its URL names no user."""
    user = _user(urlsplit(proxy))
    return f"Proxy-Authorization: Basic {base64.b64encode(user.encode()).decode()}\r\n" if user else ""


def _user(parts: SplitResult) -> str:
    name, at, _ = parts.netloc.rpartition("@")
    return unquote(name) if at else ""


def _first(names: tuple[str, ...]) -> str:
    return next((value for name in names if (value := os.environ.get(name))), "")


def _is_direct(host: str, exceptions: str) -> bool:
    """Whether an exception names the host: `*`, its name or the end of it, its address, or a network that has it."""
    for each in exceptions.split(","):
        entry = each.strip().lower()
        if entry and (entry == "*" or _is_in(host, entry) or f".{host.lower()}".endswith(f".{entry.lstrip('.')}")):
            return True
    return False


def _is_in(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
