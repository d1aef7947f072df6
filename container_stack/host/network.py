# SPDX-License-Identifier: Apache-2.0
"""One network of the Docker Engine for each subnet that containers live on, without Neutron.

The host is the router of such a network: the bridge has the gateway's address. The engine keeps
the networks of different subnets from each other, and drops what is routed to them from outside
until the operator admits it (iptables chain DOCKER-USER). Engines before 27 do neither for IPv6:
a rule of ours does it there. Where a subnet has a router of its own, plug containers into its
bridge instead (:mod:`container_stack.host.plug`).
"""

import contextlib
import dataclasses
import hashlib
import ipaddress
import itertools
import logging
import re
import time
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host import containers, locks, subnets
from container_stack.rootwrap import commands, executor

LOG = logging.getLogger(__name__)

KIND = "network"
#: Engines give every network IPv4: one that wants IPv6 alone gets a piece of this (RFC 2544), or
#: the engine would take from its own pool, which ends at some thirty networks.
FILLER = ipaddress.IPv4Network("198.18.0.0/15")

#: Seconds until the engine shows what it makes for somebody else, whom it gave the subnets.
PATIENCE = 5.0

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclasses.dataclass(frozen=True, slots=True)
class NetworkSpec:
    """A network as it is to be.

    :param id: names it for everybody on this host who uses the same subnets.
    :param subnets: one of IPv4, one of IPv6, or both. With IPv6 alone the engine's network has
        a piece of :data:`FILLER` as well.
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
        nets = [subnets.parse(subnet.cidr) for subnet in self.subnets]
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
    :param executor: for the rule that networks with IPv6 need.
    :param owner: whose networks these are; those of others are used, and never removed.
    """

    def __init__(
        self,
        engine: containers.Engine,
        object_locks: locks.ObjectLocks,
        executor: executor.Executor,
        *,
        owner: str,
    ) -> None:
        self._engine = engine
        self._locks = object_locks
        self._executor = executor
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
            network = self._find(spec)
            if network is None:
                taken = self._check_free(spec)
                self._guard(spec.subnets)
                network = self._create(spec, _filler(spec, taken))
            yield network

    def release(self, network_id: str) -> bool:
        """Remove the network unless a container is on it, running or not; tell if that was done.

        Idempotent. A network that another owner made is left to him.
        """
        with self._locks.hold(f"network-{network_id}"):
            removed = [self._remove(each) for each in self.list() if _id(each) == network_id]
        return any(removed)

    def recover(self) -> tuple[str, ...]:
        """Remove this owner's networks that no container is on, and return their ids.

        Call it when the driver starts: after a reboot the rule for IPv6 is to be made again.
        """
        self._guard([subnet for network in self.list() for subnet in network.subnets])
        return self.sweep()

    def sweep(self) -> tuple[str, ...]:
        """Remove this owner's networks that no container is on, and return their ids.

        Call it from time to time: the last who leaves a network may be another owner's.
        """
        networks = self.list()
        if not networks:
            return ()
        used = {name for each in self._engine.list() for name in each.addresses}
        spare = [_id(each) for each in networks if each.name not in used]
        return tuple(each for each in spare if self.release(each))

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
            cidrs = ", ".join(subnet.cidr for subnet in network.subnets)
            raise exceptions.AlreadyExists(
                f"Network {spec.name} exists with subnets {cidrs}, MTU {network.mtu}, internal "
                f"{network.internal}; remove it when its containers are gone, or use another id."
            )
        return network

    def _guard(self, pools: Sequence[containers.Subnet]) -> None:
        if all(subnets.parse(subnet.cidr).version == 4 for subnet in pools):
            return
        with self._locks.hold("network-guard"):
            try:
                self._executor.run(commands.networks.GUARD_CHECK)
            except exceptions.CommandFailed:
                self._executor.run(commands.networks.GUARD_INSERT)

    def _create(
        self, spec: NetworkSpec, filler: tuple[containers.Subnet, ...]
    ) -> containers.Network:
        try:
            self._engine.create_network(
                spec.name,
                spec.subnets + filler,
                mtu=spec.mtu,
                bridge=spec.bridge,
                labels={
                    "container_stack.kind": KIND,
                    "container_stack.owner": self._owner,
                    "container_stack.id": spec.id,
                },
                internal=spec.internal,
            )
        except (exceptions.AlreadyExists, exceptions.Busy) as exc:
            return self._made_by_another(spec, exc)
        return self._engine.inspect_network(spec.name)

    def _made_by_another(
        self, spec: NetworkSpec, refusal: exceptions.ContainerStackError
    ) -> containers.Network:
        """Return the network that another owner, with other locks, makes at this moment."""
        deadline = time.monotonic() + PATIENCE
        while (network := self._find(spec)) is None:
            self._check_free(spec)
            if time.monotonic() > deadline:
                raise refusal
            time.sleep(0.05)
        return network

    def _check_free(self, spec: NetworkSpec) -> Sequence[subnets.Net]:
        """Return the subnets that others have; none of them is in the way."""
        wanted = [subnets.parse(subnet.cidr) for subnet in spec.subnets]
        taken: list[subnets.Net] = []
        for other in self._engine.list_networks():
            for subnet in other.subnets:
                taken.append(subnets.parse(subnet.cidr))
                if other.name != spec.name and subnets.overlap(wanted, taken[-1:]):
                    raise exceptions.Busy(
                        f"Network {spec.id} overlaps {subnet.cidr} of the engine's network "
                        f"{other.name}; use another subnet, or remove that network."
                    )
        for interface, net in subnets.of_host():
            if interface != spec.bridge and subnets.overlap(wanted, [net]):
                raise exceptions.InvalidRequest(
                    f"Network {spec.id} overlaps {net}, which this host is on by {interface}; "
                    f"use another subnet, or plug into a bridge on {interface}."
                )
        return taken

    def _remove(self, network: containers.Network) -> bool:
        deadline = time.monotonic() + PATIENCE
        # The engine itself would only mind the running ones.
        while not any(network.name in each.addresses for each in self._engine.list()):
            try:
                self._engine.remove_network(network.id)
            except exceptions.Busy:
                if time.monotonic() > deadline:
                    break
                self._drop_ghosts(network)
                time.sleep(0.05)
            else:
                return True
        return False

    def _drop_ghosts(self, network: containers.Network) -> None:
        """Take off a network what containers left there that don't exist any more.

        Seen with Docker 20.10, rarely, when a busy engine removes many at once.
        """
        with contextlib.suppress(exceptions.NotFound):
            endpoints = self._engine.inspect_network(network.id).containers
            # Looked for after: a container that came meanwhile is among them.
            alive = {each.name for each in self._engine.list()}
            for name in set(endpoints) - alive:
                LOG.info("Taking %(name)s off %(network)s", {"name": name, "network": network.name})
                self._engine.disconnect(network.id, name)


def _id(network: containers.Network) -> str:
    return network.labels.get("container_stack.id", "")


def _is_host_of(net: subnets.Net, text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    ends = {net.network_address} | ({net.broadcast_address} if net.version == 4 else set())
    return address in net and address not in ends


def _filler(spec: NetworkSpec, taken: Sequence[subnets.Net]) -> tuple[containers.Subnet, ...]:
    if any(subnets.parse(subnet.cidr).version == 4 for subnet in spec.subnets):
        return ()
    free = (net for net in FILLER.subnets(new_prefix=24) if not subnets.overlap([net], taken))
    return tuple(containers.Subnet(str(net)) for net in itertools.islice(free, 1))


def _fits(network: containers.Network, spec: NetworkSpec) -> bool:
    want = {subnets.parse(subnet.cidr): subnet.gateway for subnet in spec.subnets}
    have = {subnets.parse(subnet.cidr): subnet.gateway for subnet in network.subnets}
    if all(net.version == 6 for net in want):
        have = {
            net: gateway for net, gateway in have.items() if not subnets.overlap([FILLER], [net])
        }
    gateways_fit = all(want[net] in (None, have.get(net)) for net in want)
    return (
        set(have) == set(want)
        and gateways_fit
        and (network.mtu, network.internal) == (spec.mtu, spec.internal)
    )
