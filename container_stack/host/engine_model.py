# SPDX-License-Identifier: Apache-2.0
"""What goes to the Docker Engine and comes back, as plain values.

Use these through :mod:`container_stack.host.containers`. Sizes are bytes, times are seconds.
"""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence


@dataclasses.dataclass(frozen=True, slots=True)
class TLS:
    """Files (PEM) for an engine at tcp://; read when the engine is first used.

    :param ca_cert: who signed the engine's certificate; None trusts the system's authorities.
    :param client_cert: what this client shows; needed where the engine runs ``--tlsverify``.
    :param client_key: None when it is in the same file as the certificate.
    :param verify: without it, whoever sits on the way to the engine is root on its host.
    """

    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    verify: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Mount:
    """A directory of the host, a volume or a tmpfs, as a container sees it.

    :param source: directory that exists on the engine's host, or a volume's name; "" for a tmpfs.
    :param target: where it appears in the container.
    :param kind: "bind", "volume" or "tmpfs".
    :param read_only: for a bind, its own tree: what is mounted below keeps its own mode.
    :param propagation: of a bind: "rslave" lets later mounts of the host appear. None is private.
    :param size: bytes that a tmpfs may take.
    :param mode: permissions of a tmpfs, as 0o1777.
    :param copy: a new volume begins with what the image has at its place.
    """

    source: str
    target: str
    kind: str = "bind"
    read_only: bool = False
    propagation: str | None = None
    size: int | None = None
    mode: int | None = None
    copy: bool = True


@dataclasses.dataclass(frozen=True, slots=True)
class Device:
    """A device of the engine's host, as a container sees it.

    :param access: of r, w and m, which is making its node.
    """

    source: str
    target: str
    access: str = "rwm"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a container may take; None is without limit, or what it was.

    :param memory: bytes, with ``swap`` bytes more that may be swapped out.
    :param cpu_quota: microseconds of CPU in each ``cpu_period`` microseconds.
    :param cpu_shares: weight against others when all want more, at least 2; 1024 is usual.
    :param cpuset_cpus: CPUs that it may run on, as 0-3,7; ``cpuset_mems`` are memory nodes.
    :param pids: processes and threads.
    """

    memory: int | None = None
    swap: int = 0
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_shares: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    pids: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerSpec:
    """A container to be made. Nothing is granted that isn't named here.

    :param image: reference or id; it is never pulled.
    :param network: name of the engine's network. None leaves only the loopback, and such a
        container can't be connected to a network later.
    :param network_disabled: the engine doesn't even put its own /etc/hosts and /etc/resolv.conf
        over the image's; only without ``network``.
    :param address4: fixed address in the network's IPv4 subnet; survives restarts.
    :param mac: as 02:42:ac:11:00:02.
    :param capabilities: without CAP_; all others are dropped.
    :param init: let the engine's tiny init be process 1, which reaps orphans and obeys SIGTERM.
    :param restart: "no", "always", "unless-stopped", or "on-failure" with ":5" for five times.
    :param auto_remove: the engine removes it when it ends.
    :param stop_signal: what it is stopped by, as SIGHUP; None is the image's, or SIGTERM.
    :param user: name or number, with ``:group`` if wanted; None is the image's.
    :param ulimits: soft and hard limit by name, as {"nofile": (1024, 4096)}.
    :param tty: stdout and stderr become one stream, a terminal's.
    :param open_stdin: there is a stdin, which ends when whoever attached first ends theirs,
        unless ``stdin_once`` is false.
    :param working_dir: None is the image's.
    :param dns: addresses of name servers; empty is the engine's own choice.
    :param hosts: names, separated by blanks, and their address, for /etc/hosts.
    :param privileged: without any wall between it and the engine's host.
    :param device_rules: devices that it may open if it has their nodes, as "b 253:7 rw".
    :param gpus: ids of devices that a driver of the engine's passes on.
    :param published: ports as "80/tcp" with the host's own for them, which may be "" for any, or
        have an address before it: "192.0.2.5:80", "[2001:db8::5]:80".
    :param storage: bytes that it may write into its root; not every storage driver can do it.
    :param security: more options, as "seccomp=..." and "apparmor=...".
    :param volumes_from: other containers whose volumes it has too, with ":ro" behind if wanted.
    :param shared: of "ipc" and "pid", the namespaces of the host that it is in.
    :param userns: "host" takes it out of the user namespace that the engine has for others.
    :param runtime: one of those that the engine knows; None is its default.
    :param log_size: bytes that the engine keeps of what it wrote; None is as the engine is set.
    """

    name: str
    image: str
    command: Sequence[str] | None = None
    entrypoint: Sequence[str] | None = None
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    mounts: Sequence[Mount] = ()
    network: str | None = None
    network_disabled: bool = False
    address4: str | None = None
    address6: str | None = None
    mac: str | None = None
    hostname: str | None = None
    capabilities: Sequence[str] = ()
    read_only_root: bool = False
    no_new_privileges: bool = True
    limits: Limits = Limits()
    init: bool = False
    restart: str = "no"
    auto_remove: bool = False
    stop_signal: str | None = None
    user: str | None = None
    sysctls: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ulimits: Mapping[str, tuple[int, int]] = dataclasses.field(default_factory=dict)
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = True
    domainname: str | None = None
    working_dir: str | None = None
    dns: Sequence[str] = ()
    dns_search: Sequence[str] = ()
    hosts: Sequence[tuple[str, str]] = ()
    privileged: bool = False
    devices: Sequence[Device] = ()
    device_rules: Sequence[str] = ()
    gpus: Sequence[str] = ()
    published: Sequence[tuple[str, str]] = ()
    storage: int | None = None
    security: Sequence[str] = ()
    volumes_from: Sequence[str] = ()
    shared: Sequence[str] = ()
    userns: str | None = None
    runtime: str | None = None
    log_size: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Container:
    """A container as the engine last saw it.

    :param state: created, running, paused, restarting, removing, exited or dead.
    :param pid: of its process 1 on the engine's host; None when it doesn't run, and in lists.
    :param sandbox: path of its network namespace on the engine's host; None as for ``pid``.
    :param exit_code: of its last run; None while it runs or when it never ran.
    :param started_at: None when it never ran, and in lists.
    :param addresses: by network; a stopped container shows its fixed addresses.
    :param mounts: binds and volumes.
    :param user: as it was asked for; empty is the image's, and in lists.
    """

    id: str
    name: str
    image_id: str
    state: str
    pid: int | None
    sandbox: str | None
    exit_code: int | None
    labels: Mapping[str, str]
    started_at: datetime.datetime | None
    addresses: Mapping[str, tuple[str, ...]]
    mounts: tuple[Mount, ...]
    user: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class ExecResult:
    """What a command in a container came to.

    :param exit_code: 126 and 127 mean that it can't be run or wasn't found, 128 + n that signal
        n ended it.
    """

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a container.

    :param action: start, die, destroy, exec_start: ... , as `docker events` names them.
    :param time: seconds since 1970, by the engine's clock.
    """

    action: str
    container_id: str
    name: str
    labels: Mapping[str, str]
    time: float


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume of the engine's own."""

    name: str
    labels: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Subnet:
    """Addresses of a network.

    :param cidr: as 192.0.2.0/24 or 2001:db8::/64.
    :param gateway: the bridge's own address on the host; None takes the first.
    """

    cidr: str
    gateway: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Network:
    """A network of the engine.

    :param bridge: the Linux bridge under it.
    :param mtu: bytes; None is the engine's default.
    :param internal: without a way out of the host.
    :param containers: names of the running containers on it; empty in lists.
    """

    id: str
    name: str
    subnets: tuple[Subnet, ...]
    labels: Mapping[str, str]
    bridge: str
    mtu: int | None
    internal: bool
    containers: tuple[str, ...]
