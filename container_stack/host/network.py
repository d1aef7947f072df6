# SPDX-License-Identifier: Apache-2.0
"""One network of the Docker Engine for each subnet that containers live on, without Neutron.

The host is the router of such a network: the bridge has the gateway's address. The engine keeps
the networks of different subnets from each other. Where a subnet has a router of its own, plug
containers into its bridge instead (:mod:`container_stack.host.plug`).
"""

import contextlib
import dataclasses
import hashlib
import ipaddress
import logging
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from container_stack import exceptions
from container_stack.host import containers, locks

LOG = logging.getLogger(__name__)

KIND = "network"

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_Net = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network as it is to be.

    :param id: names it for everybody on this host who uses the same subnets.
    :param subnets: one of IPv4, one of IPv6, or both.
    :param mtu: bytes; None is the engine's default.
    :param internal: nothing is routed between it and anything but the host itself.
    """

    id: str
    subnets: tuple[containers.Subnet, ...]
    mtu: int | None = None
    internal: bool = False

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            raise exceptions.InvalidRequest(
                f"{self.id!r} can't be a network's id: use at most 63 letters, digits, '_.-'."
            )
        nets = [_network(subnet.cidr) for subnet in self.subnets]
        if not nets or len({net.version for net in nets}) < len(nets):
            raise exceptions.InvalidRequest(
                f"Network {self.id} needs one IPv4 subnet, one IPv6 subnet, or one of each."
            )
        for net, subnet in zip(nets, self.subnets, strict=True):
            if subnet.gateway is not None and not _is_host_of(net, subnet.gateway):
                raise exceptions.InvalidRequest(
                    f"{subnet.gateway} can't be the gateway of {subnet.cidr}: "
                    "give an address of a host in it, or none."
                )
        least = 1280 if any(net.version == 6 for net in nets) else 68
        if self.mtu is not None and not least <= self.mtu <= 65535:
            raise exceptions.InvalidRequest(
                f"Network {self.id}: an MTU of {self.mtu} is not within {least} and 65535."
            )

    @property
    def name(self) -> str:
        """The network's name at the engine."""
        return f"cs-net-{self.id}"

    @property
    def bridge(self) -> str:
        """The name of the Linux bridge under it: always the same, 15 characters."""
        return "csn" + hashlib.sha256(self.id.encode()).hexdigest()[:12]


class ContainerNetworks:
    """Makes, finds and removes networks; safe under threads and processes.

    :param object_locks: shared by all processes of this owner.
    :param owner: whose networks these are; those of others are used, and never removed.
    """

    def __init__(
        self, engine: containers.Engine, object_locks: locks.ObjectLocks, *, owner: str
    ) -> None:
        self._engine = engine
        self._locks = object_locks
        self._owner = owner

    def ensure(self, spec: NetworkSpec) -> containers.Network:
        """Return the network, made if it is missing.

        Create containers within :meth:`using`, or somebody else's :meth:`release` may come first.

        :raises AlreadyExists: it is there with other subnets, MTU or mode.
        :raises Busy: another network of the engine has addresses of these subnets.
        :raises InvalidRequest: the host itself is on such a subnet, and would lose it.
        """
        with self.using(spec) as network:
            return network

    @contextlib.contextmanager
    def using(self, spec: NetworkSpec) -> Iterator[containers.Network]:
        """Lend the network, made if it is missing; it stays at least until the body ends.

        Create the container in the body: from then on the network is in use, and stays. Raises
        as :meth:`ensure`.
        """
        with self._locks.hold(f"network-{spec.id}"):
            yield self._find(spec) or self._create(spec)

    def release(self, network_id: str) -> bool:
        """Remove the network unless a container is on it, running or not; tell if that was done.

        Idempotent. A network that another owner made is left to him.
        """
        with self._locks.hold(f"network-{network_id}"):
            removed = [self._remove(each) for each in self.list() if _id(each) == network_id]
        return any(removed)

    def recover(self) -> tuple[str, ...]:
        """Remove this owner's networks that no container is on, and return their ids."""
        return tuple(_id(each) for each in self.list() if self.release(_id(each)))

    def list(self) -> list[containers.Network]:
        """Return this owner's networks, by name."""
        labels = {"container_stack.kind": KIND, "container_stack.owner": self._owner}
        return sorted(self._engine.list_networks(labels), key=lambda network: network.name)

    def _find(self, spec: NetworkSpec) -> containers.Network | None:
        try:
            network = self._engine.inspect_network(spec.name)
        except exceptions.NotFound:
            return None
        if not _fits(network, spec):
            subnets = ", ".join(subnet.cidr for subnet in network.subnets)
            raise exceptions.AlreadyExists(
                f"Network {spec.name} exists with subnets {subnets}, MTU {network.mtu}, internal "
                f"{network.internal}; remove it when its containers are gone, or use another id."
            )
        return network

    def _create(self, spec: NetworkSpec) -> containers.Network:
        self._check_free(spec)
        try:
            self._engine.create_network(
                spec.name,
                spec.subnets,
                mtu=spec.mtu,
                bridge=spec.bridge,
                labels={
                    "container_stack.kind": KIND,
                    "container_stack.owner": self._owner,
                    "container_stack.id": spec.id,
                },
                internal=spec.internal,
            )
        except (exceptions.AlreadyExists, exceptions.Busy):
            # Another owner, with other locks, may have been first.
            network = self._find(spec)
            if network is None:
                self._check_free(spec)
                raise
            return network
        return self._engine.inspect_network(spec.name)

    def _check_free(self, spec: NetworkSpec) -> None:
        wanted = [_network(subnet.cidr) for subnet in spec.subnets]
        for other in self._engine.list_networks():
            for subnet in other.subnets:
                if other.name != spec.name and _overlap(wanted, _network(subnet.cidr)):
                    raise exceptions.Busy(
                        f"Network {spec.id} overlaps {subnet.cidr} of the engine's network "
                        f"{other.name}; use another subnet, or remove that network."
                    )
        for interface, net in _host_subnets():
            if interface != spec.bridge and _overlap(wanted, net):
                raise exceptions.InvalidRequest(
                    f"Network {spec.id} overlaps {net}, which this host is on by {interface}; "
                    f"use another subnet, or plug into a bridge on {interface}."
                )

    def _remove(self, network: containers.Network) -> bool:
        # The engine itself would only mind the running ones.
        if any(network.name in each.addresses for each in self._engine.list()):
            return False
        try:
            self._engine.remove_network(network.id)
        except exceptions.Busy:
            return False
        return True


def _id(network: containers.Network) -> str:
    return network.labels.get("container_stack.id", "")


def _network(cidr: str) -> _Net:
    try:
        return ipaddress.ip_network(cidr)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{cidr!r} is no subnet: {exc}.") from exc


def _is_host_of(net: _Net, text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    ends = {net.network_address} | ({net.broadcast_address} if net.version == 4 else set())
    return address in net and address not in ends


def _fits(network: containers.Network, spec: NetworkSpec) -> bool:
    have = {_network(subnet.cidr): subnet.gateway for subnet in network.subnets}
    want = {_network(subnet.cidr): subnet.gateway for subnet in spec.subnets}
    gateways_fit = all(want[net] in (None, have.get(net)) for net in want)
    return (
        set(have) == set(want)
        and gateways_fit
        and (network.mtu, network.internal) == (spec.mtu, spec.internal)
    )


def _overlap(wanted: Sequence[_Net], net: _Net) -> bool:
    return any(each.version == net.version and each.overlaps(net) for each in wanted)


def _host_subnets() -> Iterator[tuple[str, _Net]]:
    """Yield interface and subnet of every route that needs no router.

    Source: proc_net(5) for IPv4; net/ipv6/route.c, rt6_info_route(), for IPv6.
    """
    for line in _lines("/proc/net/route"):
        interface, destination, router, *_, mask = line.split()[:8]
        if not int(router, 16) and int(mask, 16):
            address = ipaddress.IPv4Address(int(destination, 16).to_bytes(4, "little"))
            yield interface, ipaddress.IPv4Network((address, int(mask, 16).bit_count()))
    for line in _lines("/proc/net/ipv6_route"):
        destination, prefix, _, _, router, *_, interface = line.split()
        net = ipaddress.IPv6Network((bytes.fromhex(destination), int(prefix, 16)))
        if not int(router, 16) and net.prefixlen and not (net.is_link_local or net.is_multicast):
            yield interface, net


def _lines(path: str) -> Sequence[str]:
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return ()
    return lines[1:] if lines and lines[0].startswith("Iface") else lines
