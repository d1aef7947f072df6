# SPDX-License-Identifier: Apache-2.0
"""The nouns of container servers, as plain values. Sizes are bytes, times are seconds."""

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping

from container_stack import exceptions

#: Value of the label ``container_stack.kind`` on everything that belongs to a server.
KIND = "server"
#: Label that tells a server's container from those that stand aside for it: see :class:`Role`.
ROLE = "container_stack.role"
#: Label with what the compute service calls the server, for who looks at the engine's list.
NAME = "container_stack.name"

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def check_id(value: str) -> str:
    """Return ``value`` if it is a server's id, a UUID in lower case.

    :raises InvalidRequest: it is anything else.
    """
    if not _UUID.fullmatch(value):
        raise exceptions.InvalidRequest(f"{value!r} isn't a server's id: give a UUID.")
    return value


class ServerNotFound(exceptions.NotFound):
    """There is no such server on this host; who wanted to destroy it is content."""


class Role(enum.StrEnum):
    """Which of a server's containers it is; only ``MAIN`` is ever listed as the server."""

    MAIN = "main"
    #: The old one, while a resize waits for its confirmation.
    RESIZED = "resized"
    #: The server's own, while another one rescues it.
    RESCUED = "rescued"
    #: The old one, while a rebuild makes the next.
    REPLACED = "replaced"


class State(enum.StrEnum):
    """How a server stands."""

    RUNNING = "running"
    PAUSED = "paused"
    #: It was stopped, or has ended by itself.
    STOPPED = "stopped"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a server may take of its host; None is without limit.

    :param memory: bytes, all of it; ``swap`` bytes more may be swapped out.
    :param cpus: CPUs' worth of time, as 1.5.
    :param cpu_shares: weight against others when all want more; the engine's own is 1024.
    :param cpuset: CPUs that it may run on, as "0-3,7".
    :param pids: processes and threads.
    :param disk: bytes that it may write into its root file system.
    """

    memory: int | None = None
    swap: int = 0
    cpus: float | None = None
    cpu_shares: int | None = None
    cpuset: str | None = None
    pids: int | None = None
    disk: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """An image as the image service knows it.

    :param id: a UUID.
    :param digest: of the archive, in hexadecimal digits; "" when the service has none.
    :param algorithm: of the digest, as "sha512" or "md5"; "" without digest.
    :param size: of the archive; None when it isn't known.
    :param name: for logs only. Names never choose an image.
    """

    id: str
    digest: str = ""
    algorithm: str = ""
    size: int | None = None
    name: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Route:
    """A way to other networks: a destination in CIDR notation, and who forwards."""

    destination: str
    gateway: str


class Binding(enum.StrEnum):
    """How a port meets the host's network."""

    #: A Linux bridge that somebody else made, by name.
    BRIDGE = "bridge"
    #: A Linux bridge of ours for each network, as for a mechanism without an agent.
    TAP = "tap"
    #: Straight into an Open vSwitch bridge, whose controller does the filtering.
    OVS = "ovs"
    #: Through a Linux bridge of its own, on which an agent filters by iptables.
    OVS_HYBRID = "ovs_hybrid"
    #: An interface with its addresses, that leads nowhere.
    NOOP = "noop"
    #: Not bound: nothing to plug.
    UNBOUND = "unbound"


@dataclasses.dataclass(frozen=True, slots=True)
class Port:
    """One of a server's interfaces.

    :param id: a UUID; on Open vSwitch the controller knows the interface by it.
    :param network: id of the network it is on.
    :param bridge: for ``BRIDGE``, ``OVS`` and ``OVS_HYBRID`` (there: Open vSwitch's); else "".
    :param addresses: with prefix, as "192.0.2.5/24" and "2001:db8::5/64"; may be empty.
    :param gateways: of default routes, at most one a family.
    :param mtu: bytes; None leaves 1500.
    :param dns: addresses of name servers.
    :param device: name of the outer end, where the mechanism dictates it; "" leaves it to us.
    :param filtered: the mechanism itself sees to it that nobody speaks for others.
    """

    id: str
    network: str
    binding: Binding
    mac: str
    bridge: str = ""
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    mtu: int | None = None
    dns: tuple[str, ...] = ()
    device: str = ""
    filtered: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Wish:
    """What a tenant may choose of his container, after the policy has let it pass.

    None is the image's own, or the flavor's.

    :param hosts: more names that the server knows, with their addresses.
    :param memory: bytes, no more than the flavor's; ``swap`` bytes more may be swapped out.
    :param volumes: (source, target, read only): a path of the host that the operator allows, or
        "" for an anonymous volume.
    :param volumes_from: containers whose volumes it has too, and whether for reading only.
    :param host_namespaces: of "ipc" and "pid", those that it shares with the host.
    :param security: more options for the engine, as "no-new-privileges".
    """

    command: tuple[str, ...] | None = None
    entrypoint: tuple[str, ...] | None = None
    user: str | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    working_dir: str | None = None
    hostname: str | None = None
    domainname: str | None = None
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    tty: bool = False
    open_stdin: bool = False
    memory: int | None = None
    swap: int | None = None
    cpu_shares: int | None = None
    cpuset: str | None = None
    volumes: tuple[tuple[str, str, bool], ...] = ()
    volumes_from: tuple[tuple[str, bool], ...] = ()
    drop_capabilities: tuple[str, ...] = ()
    add_capabilities: tuple[str, ...] = ()
    privileged: bool = False
    devices: tuple[tuple[str, str, str], ...] = ()
    published: tuple[tuple[str, str], ...] = ()
    restart: str = "no"
    host_namespaces: tuple[str, ...] = ()
    security: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """A volume or share of another service that a server uses.

    :param id: of the volume or share.
    :param connection: how to reach it, as its service tells; it may hold secrets, and is never
        logged or kept.
    :param target: where it appears in the container: a directory for a file system, else a
        device, as "/dev/vdb".
    :param boot: it is the one that the server boots from.
    """

    id: str
    connection: Mapping[str, object] = dataclasses.field(repr=False)
    target: str
    read_only: bool = False
    boot: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Ephemeral:
    """A disk of a server's own, empty at first: its directory, as "vdb", and bytes."""

    name: str
    size: int


@dataclasses.dataclass(frozen=True, slots=True)
class Plan:
    """A server as it is to be.

    :param id: a UUID.
    :param name: what the compute service calls it, as "instance-00000001".
    :param files: for the configuration drive, by path in it; None is no drive.
    :param environment: variables of the operator's and the image's, which the tenant's
        ``wish.environment`` adds to.
    :param gpus: ids of devices for a DeviceRequest of the engine.
    :param key: public key that root of the server can be reached with, by SSH; "" is none.
    """

    id: str
    name: str
    hostname: str
    limits: Limits = Limits()
    wish: Wish = Wish()
    ports: tuple[Port, ...] = ()
    disks: tuple[Disk, ...] = ()
    ephemerals: tuple[Ephemeral, ...] = ()
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    files: Mapping[str, bytes] | None = dataclasses.field(default=None, repr=False)
    gpus: tuple[str, ...] = ()
    key: str = ""

    def __post_init__(self) -> None:
        check_id(self.id)
        if self.ephemerals and self.wish.restart != "no":
            # After a reboot of the host the engine would be earlier than who mounts them.
            raise exceptions.InvalidRequest(
                "A server with ephemeral disks can't be restarted by the engine; leave the "
                "restart policy out, or take a flavor without such disks."
            )


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A server as the engine has it.

    :param started_at: None when it never ran, and in lists.
    :param exit_code: of its last run; None while it runs, and in lists.
    """

    id: str
    name: str
    container_id: str
    image_id: str
    state: State
    started_at: datetime.datetime | None = None
    exit_code: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to a server without our doing.

    :param state: how it stands now; None when its container is gone.
    """

    server_id: str
    state: State | None


@dataclasses.dataclass(frozen=True, slots=True)
class Interface:
    """Counters of one interface, by its MAC address; bytes and packets."""

    mac: str
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_drops: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_drops: int
