# SPDX-License-Identifier: Apache-2.0
"""What a server's container is made of: the plan, within what the operator gives to all."""

import dataclasses
import hashlib
import ipaddress
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.host import containers
from container_stack.servers import cpusets, disks, model

PREFIX = "cs-server-"
#: Label with the ids of a server's devices, separated by commas.
GPUS = "container_stack.gpus"
#: Where cloud-init looks for a configuration drive that isn't a disk (its seed directory).
CONFIG_DRIVE = "/var/lib/cloud/seed/config_drive"
#: Longest name that the kernel takes for a host's: sethostname(2).
LONGEST_NAME = 64
#: Docker's own, without those to make devices, to speak raw on the network (with which a tenant
#: could pretend to be another), to write the host's audit log, and to gain capabilities.
CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE"),
    *("SETFCAP", "SETGID", "SETUID", "SYS_CHROOT"),
)
_PERIOD = 100_000
#: Least share of a kernel's cgroup.
_LEAST_SHARES = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Defaults:
    """What every server gets, unless the policy lets its tenant have otherwise.

    :param pids: processes and threads, where the flavor says nothing; None is without limit.
    :param capabilities: without CAP_; all others are dropped.
    :param privileged: every server is root on this host; for clouds of one tenant only.
    :param init: the engine's tiny init is process 1, and the image's command a child of it.
    :param security: more options for the engine, as "seccomp=..." and "apparmor=...".
    :param userns: "host" takes servers out of the engine's user namespace.
    :param runtime: one of those that the engine knows.
    :param quota: the engine's storage can limit what a server writes into its root.
    :param log_size: bytes kept of what a server writes to its console.
    :param dns: name servers, where neither the tenant nor his networks name any.
    """

    pids: int | None = 4096
    capabilities: tuple[str, ...] = CAPABILITIES
    no_new_privileges: bool = True
    privileged: bool = False
    init: bool = False
    read_only_root: bool = False
    security: tuple[str, ...] = ()
    userns: str | None = None
    runtime: str | None = None
    quota: bool = False
    log_size: int | None = 32 * 1024**2
    dns: tuple[str, ...] = ()


def container_name(server_id: str, role: model.Role = model.Role.MAIN) -> str:
    """Return the name of a server's container; parked ones are called by what they are."""
    suffix = "" if role is model.Role.MAIN else f"-{role}"
    return f"{PREFIX}{server_id}{suffix}"


def container_names(
    owner: str, server_id: str, role: model.Role = model.Role.MAIN
) -> tuple[str, str]:
    """Return that name, and the one in its stead where another owner on the same engine has it.

    See :mod:`names`.
    """
    usual = container_name(server_id, role)
    return usual, f"{usual}.{hashlib.sha256(owner.encode()).hexdigest()[:8]}"


def labels(owner: str, server_id: str | None = None) -> dict[str, str]:
    """Return what finds the containers of an owner, or those of one server."""
    found = {"container_stack.kind": model.KIND, "container_stack.owner": owner}
    return found | ({"container_stack.id": server_id} if server_id else {})


def container_spec(
    plan: model.Plan,
    image_id: str,
    connected: disks.Connected,
    defaults: Defaults,
    *,
    owner: str,
    config_drive: str | None = None,
) -> containers.ContainerSpec:
    """Return the container of a server.

    :param config_drive: the directory on the host that is its configuration drive.
    :raises InvalidRequest: the wish can't be, on this plan.
    """
    wish, dns = plan.wish, _dns(plan, defaults)
    main = {**labels(owner, plan.id), model.ROLE: model.Role.MAIN, model.NAME: plan.name}
    main |= {GPUS: ",".join(plan.gpus)} if plan.gpus else {}
    return containers.ContainerSpec(
        name=container_name(plan.id),
        image=image_id,
        command=wish.command,
        entrypoint=wish.entrypoint,
        environment={**plan.environment, **wish.environment},
        labels={**_foreign(plan.labels), **main},
        mounts=_mounts(plan, connected, config_drive),
        network=_network(plan),
        hostname=_short(wish.hostname or plan.hostname),
        domainname=wish.domainname,
        hosts=_hosts(plan),
        dns=dns,
        dns_search=wish.dns_search,
        capabilities=_capabilities(wish, defaults),
        no_new_privileges=_no_new_privileges(wish, defaults),
        privileged=_privileged(wish, defaults),
        security=_security(wish, defaults),
        shared=wish.host_namespaces,
        userns="host" if _unwalled(wish, defaults) else defaults.userns,
        runtime=defaults.runtime,
        read_only_root=defaults.read_only_root,
        init=defaults.init,
        restart=wish.restart,
        user=wish.user,
        working_dir=wish.working_dir,
        tty=wish.tty,
        open_stdin=wish.open_stdin,
        stdin_once=False,
        devices=_devices(wish, connected),
        volumes_from=[f"{name}:ro" if only else name for name, only in wish.volumes_from],
        gpus=plan.gpus,
        published=wish.published,
        storage=plan.limits.disk if defaults.quota else None,
        log_size=defaults.log_size,
        limits=limits(plan, defaults),
    )


def _foreign(given: Mapping[str, str]) -> dict[str, str]:
    """Return labels without those that would speak to us."""
    return {key: value for key, value in given.items() if not key.startswith("container_stack.")}


def limits(plan: model.Plan, defaults: Defaults) -> containers.Limits:
    """Return what a server may take: its flavor's limits, of which a wish can only take less."""
    given, wish = plan.limits, plan.wish
    memory = _least(given.memory, wish.memory)
    shares = _least(wish.cpu_shares, given.cpu_shares)
    return containers.Limits(
        memory=memory,
        swap=given.swap if wish.swap is None else min(given.swap, wish.swap),
        cpu_period=_PERIOD if given.cpus else None,
        cpu_quota=int(given.cpus * _PERIOD) if given.cpus else None,
        cpu_shares=max(shares, _LEAST_SHARES) if shares else None,
        cpuset_cpus=cpusets.within(wish.cpuset, given.cpuset),
        pids=given.pids or defaults.pids,
    )


def _least(*values: int | None) -> int | None:
    return min((value for value in values if value), default=None)


def _privileged(wish: model.Wish, defaults: Defaults) -> bool:
    return wish.privileged or defaults.privileged


def _no_new_privileges(wish: model.Wish, defaults: Defaults) -> bool:
    asked = any(each.startswith("no-new-privileges") for each in wish.security)
    return asked or (defaults.no_new_privileges and not _privileged(wish, defaults))


def _unwalled(wish: model.Wish, defaults: Defaults) -> bool:
    """Tell whether it has to be in the host's user namespace, as the engine demands of such."""
    return _privileged(wish, defaults) or bool(wish.host_namespaces)


def _security(wish: model.Wish, defaults: Defaults) -> tuple[str, ...]:
    mine = (each for each in wish.security if not each.startswith("no-new-privileges"))
    return (*defaults.security, *mine)


def _capabilities(wish: model.Wish, defaults: Defaults) -> tuple[str, ...]:
    wanted = dict.fromkeys((*defaults.capabilities, *wish.add_capabilities))
    return tuple(each for each in wanted if each not in wish.drop_capabilities)


def _network(plan: model.Plan) -> str | None:
    """Return the engine's network that publishes ports; else interfaces are plugged by us."""
    if not plan.wish.published:
        return None
    if plan.ports:
        raise exceptions.InvalidRequest(
            "Ports on the host are for servers without networks; create it with --nic none."
        )
    return "bridge"


def _dns(plan: model.Plan, defaults: Defaults) -> tuple[str, ...]:
    of_networks = tuple(dict.fromkeys(address for port in plan.ports for address in port.dns))
    return plan.wish.dns or of_networks or defaults.dns


def _hosts(plan: model.Plan) -> tuple[tuple[str, str], ...]:
    """Return the server's own name at its first address, so that it finds itself."""
    addresses = [address for port in plan.ports for address in port.addresses]
    if not addresses:
        return plan.wish.hosts
    name, domain = plan.wish.hostname or plan.hostname, plan.wish.domainname
    # On one line, whose first name is the whole one: hosts(5).
    whole = f"{name}.{domain}" if domain else name
    names = whole if _short(name) == whole else f"{whole} {_short(name)}"
    return ((names, str(ipaddress.ip_interface(addresses[0]).ip)), *plan.wish.hosts)


def _short(name: str) -> str:
    """Return a host name as the kernel takes it, which of a longer one is the first label."""
    if len(name) <= LONGEST_NAME:
        return name
    return name.partition(".")[0][:LONGEST_NAME]


def _mounts(
    plan: model.Plan, connected: disks.Connected, config_drive: str | None
) -> Sequence[containers.Mount]:
    drive = [containers.Mount(config_drive, CONFIG_DRIVE, read_only=True)] if config_drive else []
    wished = [
        containers.Mount(source, target, "bind" if source else "volume", read_only)
        for source, target, read_only in plan.wish.volumes
    ]
    return [*drive, *connected.mounts, *wished]


def _devices(wish: model.Wish, connected: disks.Connected) -> Sequence[containers.Device]:
    return [containers.Device(*each) for each in (*connected.devices, *wish.devices)]
