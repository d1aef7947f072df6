# SPDX-License-Identifier: Apache-2.0
"""One share server for all, on the host's own addresses: for sites without networks to give.

The engine passes on what comes to the protocols' ports of these addresses. The server itself is
on the engine's default network, and everything else about it is as of any other.
"""

import contextlib
import dataclasses
import hashlib
import ipaddress
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import containers, locks, records
from container_stack.shares import cifs, model, servers, wiring

#: What is passed on. An export location has no place for another port.
PORTS = (445,)
#: The engine's default network, which needs no subnet.
NETWORK = "bridge"


def spec(owner: str, addresses: Sequence[str]) -> model.ServerSpec:
    """Return the one server of this owner.

    :param addresses: of this host; clients prefer the first.
    :raises InvalidRequest: one is no address of a host, or is there twice.
    """
    if not addresses:
        raise exceptions.InvalidRequest("A server on the host's own address needs an address.")
    first, *others = [_interface(each) for each in addresses]
    server_id = "site-" + hashlib.sha256(owner.encode()).hexdigest()[:12]
    return model.ServerSpec(server_id, first.subnet, first.address, also=tuple(others))


def ensure(share_servers: servers.ShareServers, wanted: model.ServerSpec) -> model.Server:
    """Return the server, made if it is missing, and at these addresses from now on.

    Its users and rules survive a change of addresses; its clients connect again.

    :raises HostNotReady: this host hasn't got one of the addresses; nothing was changed.
    :raises Busy: another program has the port of an address.
    """
    for each in wanted.interfaces:
        _require(each.address)
    with contextlib.suppress(exceptions.NotFound):
        found = share_servers.get(wanted.id)
        if found.state in ("active", "stopped") and found.spec != wanted:
            return share_servers.replace(wanted)
    return share_servers.create(wanted)


class HostAddresses(wiring.Wiring):
    """The ports of this host's own addresses; the engine keeps them."""

    @contextlib.contextmanager
    def attached(
        self, container: containers.ContainerSpec, spec: model.ServerSpec
    ) -> Iterator[containers.ContainerSpec]:
        published = [
            (f"{port}/tcp", _socket(each.address, port))
            for port in PORTS
            for each in spec.interfaces
        ]
        yield dataclasses.replace(container, network=NETWORK, published=published)

    def complete(self, spec: model.ServerSpec, container: containers.Container) -> bool:
        return True

    def connect(self, spec: model.ServerSpec, container: containers.Container) -> None:
        """Nothing is left to do."""

    def leave(self, spec: model.ServerSpec, interface: model.Interface, container_id: str) -> None:
        """Nothing: these servers get no further address while they run."""

    def release(self, spec: model.ServerSpec) -> None:
        """Nothing: the ports go with the container."""

    def recover(self) -> None:
        """Nothing is left by crashes."""

    def keep(self) -> None:
        """Nothing is left by servers."""


class Users:
    """Which tenant a user's name belongs to, on a server with shares of many tenants.

    A user has one password for all shares of a server, and whoever names him is told it. So a
    name belongs to the tenant whose rules name it, until no rule does.

    :param names: a record for each name, which may outlive the rules.
    """

    def __init__(
        self,
        share_servers: servers.ShareServers,
        object_locks: locks.ObjectLocks,
        names: records.Records,
    ) -> None:
        self._servers = share_servers
        self._locks = object_locks
        self._names = names

    @contextlib.contextmanager
    def claimed(
        self, server_id: str, tenant: str, share_id: str, users: Iterable[str]
    ) -> Iterator[frozenset[str]]:
        """Lend names to a tenant's share, and yield those that are another tenant's.

        Set the share's rules in the body, without the latter: until it ends, nobody else can.
        """
        with self._locks.hold(f"users-{server_id}"):
            named = self._named(server_id)
            refused = set()
            for user in users:
                record = self._names.read(user)
                # Nobody knows whose a name without a record is that other shares' rules have.
                others = named.get(user, frozenset()) - {share_id}
                if others and (record is None or record["tenant"] != tenant):
                    refused.add(user)
                elif record != {"tenant": tenant}:
                    self._names.write(user, {"tenant": tenant})
            yield frozenset(refused)

    def _named(self, server_id: str) -> Mapping[str, frozenset[str]]:
        """Return the shares that name each user."""
        found: dict[str, set[str]] = {}
        server = self._servers.running(server_id)
        samba = self._servers.speaking(server, cifs.Samba.name)
        for share, rules in samba.shares().items():
            for rule in rules:
                if rule.kind == "user":
                    found.setdefault(rule.to, set()).add(share)
        return {user: frozenset(shares) for user, shares in found.items()}


def _interface(text: str) -> model.Interface:
    try:
        address = ipaddress.ip_address(text)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{text!r} is not an IP address.") from exc
    # A link-local one means nothing without an interface, and none of these names a host.
    if address.is_unspecified or address.is_multicast or address.is_link_local:
        raise exceptions.InvalidRequest(f"{text} is not an address that clients could connect to.")
    subnet = model.Subnet(f"host-{address}".replace(":", "_"), str(ipaddress.ip_network(address)))
    return model.Interface(subnet, str(address))


def _require(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError as exc:
            raise exceptions.HostNotReady(
                f"{address} is not an address of this host ({exc.strerror}); set it up, or name "
                "another."
            ) from exc


def _socket(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
