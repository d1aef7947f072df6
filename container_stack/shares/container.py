# SPDX-License-Identifier: Apache-2.0
"""What a share server's container is: what it may do, what it may take, and where it writes."""

import dataclasses
from collections.abc import Mapping

from container_stack.host import containers
from container_stack.shares import image

#: smbd begins as root and acts on files as the user who logged in: SETUID and SETGID, without
#: which it stops at once. FOWNER lets it set the times of a file that another user made. Whoever
#: has SETUID can become the owner anyway.
CAPABILITIES = ("FOWNER", "SETGID", "SETUID")
#: Any process may listen on the SMB port, so none needs NET_BIND_SERVICE.
SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "445"}
#: Samba counts on 16384 open files for each client, as Windows has. More is refused where the
#: engine itself has less and may not raise its own limit.
ULIMITS = {"nofile": (16384, 16384)}


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """What an operator may choose for share servers.

    :param memory: bytes; 10 MB serve nobody, each client takes 1 to 3 MB more.
    :param pids: processes and threads. The image admits 200 clients with 17 each.
    :param start_timeout: seconds until a started server must answer.
    """

    image: str = image.REFERENCE
    memory: int = 512 * 1024**2
    pids: int = 4096
    start_timeout: float = 60.0


def spec(
    settings: Settings,
    *,
    name: str,
    labels: Mapping[str, str],
    shares_directory: str,
    state_volume: str,
) -> containers.ContainerSpec:
    """Return a share server's container, which has no network yet.

    It writes to its volume (accounts, passwords, sections), to memory (locks, sessions), and to
    what is mounted below ``shares_directory`` on the host, before it starts or later. Where
    nothing is mounted it can't write.

    :param shares_directory: on a mount with shared propagation; one directory below for each share.
    :param state_volume: a volume of the engine's; who has it has the passwords.
    """
    return containers.ContainerSpec(
        name=name,
        image=settings.image,
        labels=labels,
        mounts=(
            containers.Mount("", "/run", kind="tmpfs", size=64 * 1024**2, mode=0o755),
            containers.Mount(state_volume, "/var/lib/samba", kind="volume"),
            containers.Mount(shares_directory, "/shares", read_only=True, propagation="rslave"),
        ),
        capabilities=CAPABILITIES,
        read_only_root=True,
        no_new_privileges=True,
        limits=containers.Limits(memory=settings.memory, pids=settings.pids),
        sysctls=SYSCTLS,
        ulimits=ULIMITS,
        restart="unless-stopped",
    )
