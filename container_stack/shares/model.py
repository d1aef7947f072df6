# SPDX-License-Identifier: Apache-2.0
"""The nouns of file shares, as plain values."""

import dataclasses
import datetime
import ipaddress
import json
import re
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.shares import security

#: Value of the label ``container_stack.kind`` on everything that belongs to a share server.
KIND = "share-server"

_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,47}")


def check_id(value: str, what: str) -> str:
    """Return ``value`` if it may name a share or a share server: a UUID, or as plain as one.

    :raises InvalidRequest: it holds anything but lower-case letters, digits and hyphens, or is
        longer than 48 characters.
    """
    if not _ID.fullmatch(value):
        raise exceptions.InvalidRequest(
            f"{value!r} can't be the id of a {what}: use at most 48 of a-z, 0-9 and '-'."
        )
    return value


class ShareNotFound(exceptions.NotFound):
    """There is no such share; who wanted to delete it is content."""


class SnapshotNotFound(exceptions.NotFound):
    """There is no such snapshot; who wanted to delete it is content."""


@dataclasses.dataclass(frozen=True, slots=True)
class Subnet:
    """A network segment on which share servers have addresses.

    :param id: names the segment for all servers on it.
    :param cidr: IPv4 or IPv6, such as ``10.254.0.0/24``.
    :param gateway: the router that clients are behind, if any.
    :param mtu: bytes; None leaves it to the engine.
    """

    id: str
    cidr: str
    gateway: str | None = None
    mtu: int | None = None

    def __post_init__(self) -> None:
        network = _parse(ipaddress.ip_network, self.cidr, "subnet")
        if self.gateway and _parse(ipaddress.ip_address, self.gateway, "gateway") not in network:
            raise exceptions.InvalidRequest(f"Gateway {self.gateway} is not in {self.cidr}.")
        if self.mtu is not None and not 576 <= self.mtu <= 65535:
            raise exceptions.InvalidRequest(f"An MTU of {self.mtu} is not between 576 and 65535.")


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """A share server's address on one subnet.

    :param mac: its hardware address, where a port was reserved with one.
    :param port_id: the port at the network service, for Open vSwitch's ``iface-id``.
    """

    subnet: Subnet
    address: str
    mac: str | None = None
    port_id: str | None = None

    def __post_init__(self) -> None:
        address = _parse(ipaddress.ip_address, self.address, "address")
        if address not in ipaddress.ip_network(self.subnet.cidr):
            raise exceptions.InvalidRequest(f"{self.address} is not in {self.subnet.cidr}.")
        if self.address == self.subnet.gateway:
            raise exceptions.InvalidRequest(f"{self.address} is the gateway's address.")

    @property
    def version(self) -> int:
        """4 or 6."""
        return ipaddress.ip_address(self.address).version

    def to_json(self) -> str:
        """Return the text that a service keeps."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Interface":
        """Return what :meth:`to_json` was made from."""
        values = json.loads(text)
        return cls(**{**values, "subnet": Subnet(**values["subnet"])})


@dataclasses.dataclass(frozen=True, slots=True)
class ServerSpec:
    """What a share server is to be.

    :param id: its id at the service that asked for it.
    :param subnet: where it lives.
    :param address: its address in the subnet, for as long as it exists.
    :param mac: its hardware address, where a port was reserved with one.
    :param port_id: the port at the network service, for Open vSwitch's ``iface-id``.
    :param also: where it lives besides; clients may come by any of its addresses.
    :param users: whose users its users are; None for its own.
    """

    id: str
    subnet: Subnet
    address: str
    mac: str | None = None
    port_id: str | None = None
    also: tuple[Interface, ...] = ()
    users: security.SecurityService | None = None

    def __post_init__(self) -> None:
        check_id(self.id, "share server")
        seen: list[Subnet] = []
        for each in self.interfaces:
            for other in seen:
                if other.id == each.subnet.id or overlap(other.cidr, each.subnet.cidr):
                    raise exceptions.InvalidRequest(
                        f"Share server {self.id} can't have two addresses in {each.subnet.cidr}."
                    )
            seen.append(each.subnet)

    @property
    def interfaces(self) -> tuple[Interface, ...]:
        """All its addresses, the first one first."""
        return (Interface(self.subnet, self.address, self.mac, self.port_id), *self.also)

    def joined(self, interface: Interface) -> "ServerSpec":
        """Return what the server is to be when it has this address, too.

        Another address that it had in this subnet gives way, unless that is the first.

        :raises InvalidRequest: it lives in a subnet that overlaps.
        """
        others = (each for each in self.also if each.subnet.id != interface.subnet.id)
        return dataclasses.replace(self, also=(*others, interface))

    def to_json(self) -> str:
        """Return the text that a label keeps."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ServerSpec":
        """Return what :meth:`to_json` was made from, here or in an earlier version."""
        values = json.loads(text)
        also = tuple(
            Interface(**{**each, "subnet": Subnet(**each["subnet"])})
            for each in values.get("also", ())
        )
        found = values.get("users")
        users = security.SecurityService.of(found) if found else None
        subnet = Subnet(**values["subnet"])
        return cls(**{**values, "subnet": subnet, "also": also, "users": users})


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A share server as it is now.

    :param state: ``active``, ``stopped``, ``creating`` or ``deleting``; the last two mean that
        somebody works on it, or that a crash left it for :meth:`ShareService.recover`.
    :param container_id: the engine's id of the container.
    """

    spec: ServerSpec
    state: str
    container_id: str

    @property
    def id(self) -> str:
        """The id that the service knows it by."""
        return self.spec.id


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """A share as it is now.

    :param size: bytes.
    :param export_locations: what a client connects to, such as ``\\\\10.254.0.5\\<id>``: one for
        each address of its server, the preferred one first.
    :param protocol: as Manila calls it, such as CIFS.
    """

    id: str
    server_id: str
    size: int
    export_locations: tuple[str, ...]
    protocol: str

    @property
    def export_location(self) -> str:
        """What a client connects to unless it has a reason for another."""
        return self.export_locations[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """A share's content at a moment.

    :param share_id: None while the service has forgotten the share.
    :param size: bytes that the share had then.
    :param export_locations: where those who may look into it find it, as with a share.
    """

    id: str
    share_id: str | None
    size: int
    created_at: datetime.datetime
    export_locations: tuple[str, ...]

    @property
    def export_location(self) -> str:
        """Where they find it unless they have a reason for another."""
        return self.export_locations[0]


@dataclasses.dataclass(frozen=True, slots=True)
class Health:
    """What :meth:`ShareService.recover` found and did.

    :param finished: ids of half-made or half-deleted shares and servers that were removed.
    :param failed: what could not be brought back, id to reason.
    """

    finished: tuple[str, ...] = ()
    failed: Mapping[str, str] = dataclasses.field(default_factory=dict)


def overlap(one: str, other: str) -> bool:
    """Tell whether two subnets have an address in common."""
    a, b = ipaddress.ip_network(one), ipaddress.ip_network(other)
    return a.version == b.version and a.overlaps(b)


def _parse(parser, text: str, what: str):  # type: ignore[no-untyped-def]
    try:
        return parser(text)
    except ValueError as exc:
        raise exceptions.InvalidRequest(f"{text!r} is not a valid {what}.") from exc
