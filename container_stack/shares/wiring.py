# SPDX-License-Identifier: Apache-2.0
"""How a share server gets its address: on a network of the engine's, or on somebody's bridge."""

import abc
import contextlib
import dataclasses
import hashlib
import ipaddress
from collections.abc import Iterator

from container_stack.host import containers, network, plug
from container_stack.shares import model


class Wiring(abc.ABC):
    """One way to connect share servers."""

    #: Whether a connection survives a restart of the container by itself.
    lasting: bool

    @abc.abstractmethod
    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        """Lend the container's spec with its network; create the container in the body."""

    @abc.abstractmethod
    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        """Do what is left to do when the container runs; idempotent."""

    @abc.abstractmethod
    def release(self, spec: model.ServerSpec) -> None:
        """Take away what the removed container leaves behind; idempotent."""

    @abc.abstractmethod
    def recover(self) -> None:
        """Take away what crashes left behind."""


class EngineNetworks(Wiring):
    """A network of the engine's for each subnet; the engine keeps address and connection."""

    lasting = True

    def __init__(self, networks: network.ContainerNetworks) -> None:
        self._networks = networks

    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        subnet = spec.subnet
        wanted = network.NetworkSpec(
            subnet.id, (containers.Subnet(subnet.cidr, subnet.gateway),), mtu=subnet.mtu
        )
        is_ipv6 = ipaddress.ip_address(spec.address).version == 6
        with self._networks.using(wanted) as made:
            yield dataclasses.replace(
                container,
                network=made.name,
                mac=spec.mac,
                address4=None if is_ipv6 else spec.address,
                address6=spec.address if is_ipv6 else None,
            )

    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        """Nothing is left to do."""

    def release(self, spec: model.ServerSpec) -> None:
        self._networks.release(spec.subnet.id)

    def recover(self) -> None:
        self._networks.recover()


class Bridged(Wiring):
    """Plugged into a bridge that somebody else made, anew after each start of the container."""

    lasting = False

    def __init__(self, plugs: plug.Plugs, bridge: str, *, ovs: bool) -> None:
        self._plugs = plugs
        self._bridge = bridge
        self._ovs = ovs

    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        yield container

    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        prefix = ipaddress.ip_network(spec.subnet.cidr).prefixlen
        self._plugs.plug(
            plug.Plug(
                id=spec.port_id or spec.id,
                bridge=self._bridge,
                mac=spec.mac or _mac(spec.id),
                addresses=(f"{spec.address}/{prefix}",),
                gateways=(spec.subnet.gateway,) if spec.subnet.gateway else (),
                mtu=spec.subnet.mtu or 1500,
                interface="eth0",
                ovs=self._ovs,
            ),
            container.sandbox or "",
        )

    def release(self, spec: model.ServerSpec) -> None:
        self._plugs.unplug(spec.port_id or spec.id, ovs=self._ovs)

    def recover(self) -> None:
        """Nothing: the kernel removes a link together with the namespace that its peer is in."""


def _mac(server_id: str) -> str:
    """Return a locally administered address, always the same for a server."""
    return "02:" + hashlib.sha256(server_id.encode()).digest()[:5].hex(":")
