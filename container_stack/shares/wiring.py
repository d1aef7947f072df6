# SPDX-License-Identifier: Apache-2.0
"""How a share server gets its address: on a network of the engine's, or on somebody's bridge."""

import abc
import contextlib
import dataclasses
import hashlib
import ipaddress
from collections.abc import Iterator
from typing import Any

from container_stack import exceptions
from container_stack.host import containers, network, plug
from container_stack.shares import model


class Wiring(abc.ABC):
    """One way to connect share servers."""

    @abc.abstractmethod
    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        """Lend the container's spec with its network; create the container in the body."""

    @abc.abstractmethod
    def complete(self, spec: model.ServerSpec, container: containers.Container) -> bool:
        """Tell whether a running container has all its addresses, if that can be told at once."""

    @abc.abstractmethod
    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        """Do what is left to do when the container runs; idempotent."""

    @abc.abstractmethod
    def leave(self, spec: model.ServerSpec, interface: model.Interface, container_id: str) -> None:
        """Take one of the further addresses from a container; idempotent."""

    @abc.abstractmethod
    def release(self, spec: model.ServerSpec) -> None:
        """Take away what the removed container leaves behind; idempotent."""

    @abc.abstractmethod
    def recover(self) -> None:
        """Take away what crashes left behind."""

    @abc.abstractmethod
    def keep(self) -> None:
        """Take away what nobody uses any more: call it from time to time."""


class EngineNetworks(Wiring):
    """A network of the engine's for each subnet; the engine keeps address and connection."""

    def __init__(self, networks: network.ContainerNetworks, engine: containers.Engine) -> None:
        self._networks = networks
        self._engine = engine

    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        first = spec.interfaces[0]
        with self._networks.using(_network(first.subnet)) as made:
            yield dataclasses.replace(container, network=made.name, mac=spec.mac, **_fixed(first))

    def complete(self, spec: model.ServerSpec, container: containers.Container) -> bool:
        return all(_is_on(each, container) for each in spec.also)

    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        for each in spec.also:
            if _is_on(each, container):
                continue
            with self._networks.using(_network(each.subnet)) as made:
                # It may have had another address there.
                self._engine.disconnect(made.name, container.id)
                self._engine.connect(made.name, container.id, **_fixed(each))

    def leave(self, spec: model.ServerSpec, interface: model.Interface, container_id: str) -> None:
        with contextlib.suppress(exceptions.NotFound):
            self._engine.disconnect(_network(interface.subnet).name, container_id)
        self._networks.release(interface.subnet.id)

    def release(self, spec: model.ServerSpec) -> None:
        for each in spec.interfaces:
            self._networks.release(each.subnet.id)

    def recover(self) -> None:
        self._networks.recover()

    def keep(self) -> None:
        """The last server on a network may have been that of another back end."""
        self._networks.sweep()


class Bridged(Wiring):
    """Plugged into a bridge that somebody else made, anew after each start of the container.

    With several subnets of a family, all that goes beyond them goes by the first one's router.
    """

    def __init__(self, plugs: plug.Plugs, bridge: str, *, ovs: bool) -> None:
        self._plugs = plugs
        self._bridge = bridge
        self._ovs = ovs

    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        yield container

    def complete(self, spec: model.ServerSpec, container: containers.Container) -> bool:
        return False

    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        routed: set[int] = set()
        for number, each in enumerate(spec.interfaces):
            # There is one default route of a family; a second would take the first one's place.
            gateway = None if each.version in routed else each.subnet.gateway
            routed |= {each.version} if gateway else set()
            prefix = ipaddress.ip_network(each.subnet.cidr).prefixlen
            name = _plug_id(spec, each)
            self._plugs.plug(
                plug.Plug(
                    id=name,
                    bridge=self._bridge,
                    mac=each.mac or _mac(name),
                    addresses=(f"{each.address}/{prefix}",),
                    gateways=(gateway,) if gateway else (),
                    mtu=each.subnet.mtu or 1500,
                    interface=f"eth{number}",
                    ovs=self._ovs,
                ),
                container.sandbox or "",
            )

    def leave(self, spec: model.ServerSpec, interface: model.Interface, container_id: str) -> None:
        self._plugs.unplug(_plug_id(spec, interface), ovs=self._ovs)

    def release(self, spec: model.ServerSpec) -> None:
        for each in spec.interfaces:
            self._plugs.unplug(_plug_id(spec, each), ovs=self._ovs)

    def recover(self) -> None:
        """Nothing: the kernel removes a link together with the namespace that its peer is in."""

    def keep(self) -> None:
        """Nothing, for that reason."""


def _network(subnet: model.Subnet) -> network.NetworkSpec:
    cidrs = (containers.Subnet(subnet.cidr, subnet.gateway),)
    return network.NetworkSpec(subnet.id, cidrs, mtu=subnet.mtu)


def _fixed(interface: model.Interface) -> dict[str, Any]:
    """Return an address as the engine wants to be told it."""
    six = interface.version == 6
    return {
        "address4": None if six else interface.address,
        "address6": interface.address if six else None,
    }


def _is_on(interface: model.Interface, container: containers.Container) -> bool:
    has = container.addresses.get(_network(interface.subnet).name, ())
    return ipaddress.ip_address(interface.address) in map(ipaddress.ip_address, has)


def _plug_id(spec: model.ServerSpec, interface: model.Interface) -> str:
    if interface.port_id:
        return interface.port_id
    return spec.id if interface == spec.interfaces[0] else f"{spec.id}-{interface.subnet.id}"


def _mac(name: str) -> str:
    """Return a locally administered address, always the same for an interface."""
    return "02:" + hashlib.sha256(name.encode()).digest()[:5].hex(":")
