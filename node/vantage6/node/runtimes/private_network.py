"""Isolation `network`: the node's private network, and one relay for each run.

The network `vantage-NODE_NAME-net` is internal, has no address of the host (`--internal` alone leaves the host
reachable through the bridge's own address) and lets no two containers on it talk. What is on it is therefore alone.
A run shares the network namespace of its relay: the proxy is at 127.0.0.1, where the relay passes connections on to
the run's own Unix socket. So there is nothing on the wire that another run could listen to, answer for, or reach.
"""

from __future__ import annotations

import inspect
import json
import logging
import threading
from typing import TYPE_CHECKING, Any, cast

from docker.errors import APIError, NotFound
from docker.types import IPAMConfig, IPAMPool, Mount

from vantage6.node.runtimes import relay
from vantage6.node.runtimes.base import MIB, NOBODY, RunRefused
from vantage6.node.runtimes.docker_events import cut, release
from vantage6.node.runtimes.own_image import missing, own_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from docker import DockerClient

    from vantage6.node.runtimes.base import RunSpec
    from vantage6.node.runtimes.docker_paths import HostPaths

log = logging.getLogger(__name__)

PROXY_PORT = 50051
WEB_PORT = 50052
RELAY_USER = f"{NOBODY - 1}:{NOBODY - 1}"  # Not the run's: they share a network, and nothing else.
SOCKETS = "/run/vantage6"
NO_RESOLVER = "0.0.0.0"  # noqa: S104 - an address where nobody answers
OPTIONS = {
    "com.docker.network.bridge.inhibit_ipv4": "true",
    "com.docker.network.bridge.enable_icc": "false",
}


def network_name(node: str) -> str:
    """M45."""
    return f"vantage-{node}-net"


class PrivateNetwork:
    """Of one node. All calls block."""

    def __init__(self, node: str, image: str, labels: Callable[[str], Mapping[str, str]], subnet: str = "") -> None:
        self.name = network_name(node)
        self._node = node
        self._image = image
        self._labels = labels
        self._subnet = subnet
        self._making = threading.Lock()

    def ensure(self, client: DockerClient, node: str = "") -> str:
        """Makes the network, or makes sure of the one that is there: somebody else may have made it, open. Its id.

        `node` is the node's own container, if it is in one: it sits on this network too, beside the one on which it
        reaches the server (M55). Nobody there can talk to it.
        """
        with self._making:  # The engine makes a second one of the same name, and then knows neither by it.
            facts = self._found_or_made(client)
        is_options = facts.get("Options") or {}
        closed = facts.get("Internal") and all(is_options.get(key) == value for key, value in OPTIONS.items())
        if not closed or facts.get("EnableIPv6"):
            raise RunRefused(
                f"network {self.name} exists and is not closed as this node needs it; "
                f"remove it (docker network rm {self.name}), the node makes it anew"
            )
        if node and node not in (facts.get("Containers") or {}):
            try:
                client.api.connect_container_to_network(node, facts["Id"])
            except APIError as error:
                if "already exists" not in str(error.explanation):  # Another run's start was quicker.
                    raise
        return str(facts["Id"])

    def _found_or_made(self, client: DockerClient) -> dict[str, Any]:
        known = [each["Id"] for each in client.api.networks(names=[self.name]) if each["Name"] == self.name]
        if not known:
            pools = [IPAMPool(subnet=self._subnet)] if self._subnet else []
            made = client.api.create_network(
                self.name, driver="bridge", internal=True, options=dict(OPTIONS), check_duplicate=True,
                ipam=IPAMConfig(pool_configs=pools) if pools else None, labels=dict(self._labels("network")),
            )  # fmt: skip
            known = [made["Id"]]
        return cast("dict[str, Any]", client.api.inspect_network(min(known)))

    def start_relay(self, client: DockerClient, spec: RunSpec, name: str, paths: HostPaths) -> str:
        """Starts the run's relay and gives its id when it listens."""
        network = self.ensure(client, paths.container)
        image = own_image(client, self._image, paths.container)
        remove_relay(client, name)  # Of a start that was cut short; its run was never begun.
        ways = [("127.0.0.1", PROXY_PORT, f"{SOCKETS}/proxy.sock"), ("127.0.0.1", WEB_PORT, f"{SOCKETS}/http.sock")]
        ways += [(each.address, each.port, each.socket) for each in spec.forwards]
        try:
            made = client.api.create_container(
                image, [inspect.getsource(relay), relay_arguments(ways)], name=relay_name(name),
                user=RELAY_USER, entrypoint=["python3", "-I", "-c"], hostname="algorithm", use_config_proxy=False,
                labels={**self._labels("relay"), "vantage6-relay-of": name}, healthcheck={"test": ["NONE"]},
                host_config=client.api.create_host_config(**self._restrictions(spec, paths.on_host, network)),
            )  # fmt: skip
        except NotFound as error:  # Somebody removed it in this moment.
            raise RunRefused(missing(image)) from error
        identifier = str(made["Id"])
        try:
            client.api.start(identifier)
            self._wait_until_ready(client, identifier)
        except BaseException:
            client.api.remove_container(identifier, force=True, v=True)
            raise
        return identifier

    @staticmethod
    def _wait_until_ready(client: DockerClient, identifier: str) -> None:
        said = b""
        stream = client.api.logs(identifier, stream=True, follow=True)
        try:
            for chunk in stream:
                said += chunk
                if b"ready\n" in said:
                    return
        finally:
            cut(stream)
            release(stream)
        log.warning("a relay did not start: %s", said.decode(errors="replace")[-500:])
        raise RunRefused("the run's relay did not start; the node's log says why")

    def _restrictions(self, spec: RunSpec, on_host: Callable[[Path], Path], network: str) -> dict[str, Any]:
        return {
            "network_mode": network,
            "read_only": True,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "ipc_mode": "private",
            "pids_limit": 32,
            "mem_limit": 96 * MIB,
            "memswap_limit": 96 * MIB,
            # The engine's resolver asks those of the host when it is given none (CVE-2024-29018).
            "dns": [NO_RESOLVER],
            "extra_hosts": {"proxy": "127.0.0.1", **{each.host: each.address for each in spec.forwards}},
            "sysctls": {"net.ipv4.ip_forward": "0", "net.ipv6.conf.all.disable_ipv6": "1"},
            "restart_policy": {"Name": "no"},
            "mounts": [Mount(SOCKETS, str(on_host(spec.run_dir / "socket")), type="bind", read_only=True)],
        }


def relay_name(name: str) -> str:
    """Of the relay that belongs to the container `name`."""
    return f"{name}-relay"


def relay_arguments(ways: list[tuple[str, int, str]]) -> str:
    return json.dumps(ways)


def remove_relay(client: DockerClient, name: str) -> None:
    """Nothing happens when there is none."""
    try:
        client.api.remove_container(relay_name(name), force=True, v=True)
    except NotFound:
        return
    except APIError as error:
        if error.status_code != 409:  # It is being removed.
            raise
