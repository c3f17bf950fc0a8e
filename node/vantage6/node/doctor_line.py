"""The way to the server, step by step: name, connection, TLS with HTTP/2, clock, API key, key pair."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import grpc

from vantage6.api.v1.auth_pb2 import CreateNodeTokenRequest
from vantage6.api.v1.auth_pb2_grpc import AuthServiceStub
from vantage6.api.v1.node_pb2 import GetNodeRequest
from vantage6.api.v1.node_pb2_grpc import NodeServiceStub
from vantage6.api.v1.organization_pb2 import GetOrganizationRequest
from vantage6.api.v1.organization_pb2_grpc import OrganizationServiceStub
from vantage6.api.v1.system_pb2 import GetVersionRequest
from vantage6.api.v1.system_pb2_grpc import SystemServiceStub
from vantage6.common.channel import Endpoint, open_channel
from vantage6.common.errors import Unauthenticated, Vantage6Error, from_rpc_error
from vantage6.common.findings import Finding, failed, ok, skipped, warning
from vantage6.common.keys import KeyPair, PublicKey
from vantage6.common.proxies import authorization, place_of
from vantage6.node.config import NodeConfig

SECONDS = 10.0
SKEW, LARGE_SKEW = 30.0, 300.0
LONGEST_HEAD = 16 * 1024


async def check_line(config: NodeConfig) -> list[Finding]:
    """Stops at the first step that fails: what is behind it cannot be seen."""
    endpoint = config.endpoint
    if endpoint.url.startswith("unix:"):
        return await _calls(config)
    host, _, port = endpoint.target.rpartition(":")
    found = await _connection(config, endpoint, host.strip("[]"), int(port))
    if any(finding.outcome == "failed" for finding in found):
        return found
    return [*found, *await _calls(config)]


async def _connection(config: NodeConfig, endpoint: Endpoint, host: str, port: int) -> list[Finding]:
    proxy = endpoint.way
    near, near_port = place_of(proxy) if proxy else (host, port)
    what = "proxy" if proxy else "name resolution"
    try:
        addresses = await asyncio.get_running_loop().getaddrinfo(near, near_port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        fix = "check server_url, and the DNS server of this machine"
        return [failed(what, f"{near} has no address: {error.strerror}", fix, "unreachable")]
    shown = ", ".join(dict.fromkeys(str(address[4][0]) for address in addresses))
    found = [ok(what, f"{near} is {shown}" + (f", the proxy to {host}:{port}" if proxy else ""))]
    if config.runtime == "docker" and _is_here(near):
        text, fix = f"{near} is this machine, and a node in a container is another one", "use the name that others use"
        found.append(warning(what, text, f"{fix}, or start with --local"))
    try:
        stream = await asyncio.to_thread(_connect, host, port, proxy)
    except ProxyRefusedError as error:
        return [*found, failed("proxy", f"{near}:{near_port}: {error}", error.fix, "unreachable")]
    except OSError as error:
        fix = "is the server up, and is the port open in every firewall between?"
        return [*found, failed("connection", f"{host}:{port}: {error.strerror or error}", fix, "unreachable")]
    with stream:
        if not endpoint.secure:
            fix = "use https:// unless server and node are on one machine"
            return [*found, warning("TLS", "the connection is not encrypted: server_url is http://", fix)]
        return [*found, await asyncio.to_thread(_tls, endpoint, host, stream)]


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class ProxyRefusedError(Exception):
    """It answers, and does not let us through."""

    def __init__(self, status: str) -> None:
        super().__init__(f"the proxy says {status!r}")
        self.fix = "have it allow CONNECT to the server"
        if " 407 " in f"{status} ":
            self.fix = "name its user and password in https_proxy, or in 'proxy': http://user:password@host:port"


def _connect(host: str, port: int, proxy: str) -> socket.socket:
    if not proxy:
        return socket.create_connection((host, port), timeout=SECONDS)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    with ExitStack() as held:
        stream = held.enter_context(socket.create_connection(place_of(proxy), timeout=SECONDS))
        stream.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization(proxy)}\r\n".encode())
        status = _head(stream)
        if " 200 " not in f"{status} ":
            raise ProxyRefusedError(status)
        held.pop_all()
        return stream


def _head(stream: socket.socket) -> str:
    """The first line of an answer, read to the end of its head: what follows belongs to the server."""
    head = b""
    while b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
        piece = stream.recv(1)
        if not piece:
            break
        head += piece
    return head.split(b"\r\n", 1)[0].decode(errors="replace")


def _tls(endpoint: Endpoint, host: str, stream: socket.socket) -> Finding:
    try:
        context = ssl.create_default_context(cafile=str(endpoint.ca_file) if endpoint.ca_file else None)
    except (OSError, ssl.SSLError) as error:
        return failed("TLS", f"ca_file {endpoint.ca_file}: {error}", "point ca_file to a PEM bundle of authorities")
    context.set_alpn_protocols(["h2"])
    try:
        with context.wrap_socket(stream, server_hostname=host) as secured:
            version, spoken = secured.version(), secured.selected_alpn_protocol()
    except ssl.SSLCertVerificationError as error:
        fix = "set ca_file to the authority that signed the server's certificate, and use the name that is in it"
        return failed("TLS", f"the certificate is not trusted: {error.verify_message}", fix, "unreachable")
    except (OSError, ssl.SSLError) as error:
        return failed("TLS", f"{host} does not answer with TLS: {error}", "is it https:// and the right port?")
    if spoken != "h2":
        fix = "something between, such as a proxy that opens TLS, must let HTTP/2 pass"
        return failed("TLS", f"{version}, but without HTTP/2", fix, "unreachable")
    return ok("TLS", f"{version} with HTTP/2, certificate is good")


async def _calls(config: NodeConfig) -> list[Finding]:
    async with open_channel(config.endpoint, options=(("grpc.enable_retries", 0),)) as channel:
        try:
            found = await _version(channel)
        except grpc.aio.AioRpcError as error:
            text = from_rpc_error(error).message
            return [failed("server", text, "is this the address of a vantage6 server?", "unreachable")]
        return [*found, *await _credentials(config, channel)]


async def _version(channel: grpc.aio.Channel) -> list[Finding]:
    call = SystemServiceStub(channel).GetVersion(GetVersionRequest(), timeout=SECONDS)
    version = await call
    found = [ok("server", f"version {version.version}, contract {version.contract_version}")]
    date = dict(await call.initial_metadata() or ()).get("date")
    if date is None:
        return [*found, skipped("clock", "the server does not say its time (it does behind the gateway)")]
    skew = abs((datetime.now(UTC) - parsedate_to_datetime(str(date))).total_seconds())
    text = f"{skew:.0f} s away from the server's"
    fix = "set the clock by NTP: tokens and certificates are good for a time only"
    if skew > LARGE_SKEW:
        return [*found, failed("clock", text, fix, "clock")]
    return [*found, warning("clock", text, fix) if skew > SKEW else ok("clock", text)]


async def _credentials(config: NodeConfig, channel: grpc.aio.Channel) -> list[Finding]:
    try:
        api_key = config.read_api_key()
    except Vantage6Error as error:
        return [failed("API key", error.message, "run 'vnode set-api-key'", "refused")]
    request = CreateNodeTokenRequest(api_key=api_key)
    try:
        answer = await AuthServiceStub(channel).CreateNodeToken(request, timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        failure = from_rpc_error(error)
        if isinstance(failure, Unauthenticated):
            fix = "run 'vnode set-api-key' with the key shown when the node was registered, or have it reset"
            return [failed("API key", "the server does not know it", fix, "refused")]
        return [failed("API key", failure.message, "try again, or ask the server's administrator", "unreachable")]
    found = [ok("API key", "the server accepts it")]
    with suppress(ValueError):
        token = (("authorization", f"Bearer {answer.access_token}"),)
        node_id = int(answer.node_url.rsplit("/", 1)[-1])
        found.append(await _keys(config, channel, token, node_id))
    return found


async def _keys(
    config: NodeConfig, channel: grpc.aio.Channel, token: tuple[tuple[str, str], ...], node_id: int
) -> Finding:
    try:
        node = await NodeServiceStub(channel).GetNode(GetNodeRequest(id=node_id), metadata=token, timeout=SECONDS)
        request = GetOrganizationRequest(id=node.organization_id)
        organization = await OrganizationServiceStub(channel).GetOrganization(request, metadata=token, timeout=SECONDS)
    except grpc.aio.AioRpcError as error:
        return skipped("key pair", f"the server does not show the organization: {from_rpc_error(error).message}")
    if not organization.public_key:
        return ok("key pair", "the server has no public key yet; the node will upload its own")
    return _compared(config, PublicKey.from_pem(organization.public_key))


def _compared(config: NodeConfig, shown: PublicKey) -> Finding:
    path = config.private_key_file
    fix = "copy the organization's private key to this machine, and set private_key in the configuration"
    if not path.exists():
        text = f"the server shows {shown.fingerprint}"
        if config.runtime == "docker" and config.private_key is None:
            return skipped("key pair", f"{text}; a node in a container has its key in its volume")
        return failed("key pair", f"{text}, there is no key here", fix, "refused")
    try:
        own = KeyPair.load(path).public
    except (Vantage6Error, OSError) as error:
        return failed("key pair", f"{path}: {error}", fix)
    if own != shown:
        text = f"{path} is {own.fingerprint}, the server shows {shown.fingerprint}"
        return failed("key pair", text, fix, "refused")
    return ok("key pair", "private and public key belong together")
