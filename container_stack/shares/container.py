# SPDX-License-Identifier: Apache-2.0
"""What a share server's container is: what it may do, what it may take, and where it writes."""

import dataclasses
import importlib.resources
import json
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.host import containers
from container_stack.shares import image, protocols, security

#: smbd begins as root and acts on files as the user who logged in: SETUID and SETGID, without
#: which it stops at once. FOWNER lets it set the times of a file that another user made. Whoever
#: has SETUID can become the owner anyway.
CAPABILITIES = ("FOWNER", "SETGID", "SETUID")
#: Ganesha finds files by handles, which asks for DAC_READ_SEARCH, and does what the clients' root
#: may do. Who breaks into it can open any file of a file system of which something is mounted in
#: the container, the host's own among them. SETPCAP takes all this from smbd beside it.
NFS_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FSETID", "SETPCAP")
#: What ``share-server`` starts with the users of a directory, by its kind.
MEMBERS = {security.ACTIVE_DIRECTORY: "member", security.LDAP: "ldap"}
SQUASH = ("none", "root", "all")
#: Label of a container: the protocols that it speaks, by name, with commas.
SPEAKS = "container_stack.protocols"
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
    :param protocols: what it speaks, by name; CIFS is always among them.
    :param nfs_minor_versions: those of NFS 4 that clients may speak.
    :param nfs_squash: whose requests count as nobody's: ``none``, those of the clients' ``root``,
        or ``all``.
    :param trust: how LDAP directories prove that they are the tenants'.
    :raises InvalidRequest: there is no such version, or no such squash.
    :raises NotSupported: there is no such protocol.
    """

    image: str = image.REFERENCE
    memory: int = 512 * 1024**2
    pids: int = 4096
    start_timeout: float = 60.0
    protocols: tuple[str, ...] = (protocols.DEFAULT,)
    nfs_minor_versions: tuple[int, ...] = (1, 2)
    nfs_squash: str = "none"
    trust: security.Trust = dataclasses.field(default_factory=security.Trust)

    def __post_init__(self) -> None:
        for name in self.protocols:
            protocols.get(name)
        if protocols.DEFAULT not in self.protocols:
            raise exceptions.InvalidRequest("Share servers always speak CIFS; name it, too.")
        if not self.nfs_minor_versions or not {0, 1, 2}.issuperset(self.nfs_minor_versions):
            raise exceptions.InvalidRequest("NFS has the minor versions 0, 1 and 2; name one.")
        if self.nfs_squash not in SQUASH:
            raise exceptions.InvalidRequest(f"Squash is one of {', '.join(SQUASH)}.")


def spec(
    settings: Settings,
    *,
    name: str,
    labels: Mapping[str, str],
    shares_directory: str,
    state_volume: str,
    users: security.SecurityService | None = None,
    account: str | None = None,
) -> containers.ContainerSpec:
    """Return a share server's container, which has no network yet.

    It writes to its volume (accounts, passwords, sections), to memory (locks, sessions), and to
    what is mounted below ``shares_directory`` on the host, before it starts or later. Where
    nothing is mounted it can't write.

    :param shares_directory: on a mount with shared propagation; one directory below for each share.
    :param state_volume: a volume of the engine's; who has it has the passwords.
    :param users: whose users its users are; then it speaks CIFS only.
    :param account: the server's own name there.
    """
    speaks = tuple(protocols.MEMBERS[users.kind]) if users else settings.protocols
    nfs = "NFS" in speaks
    minors = ",".join(map(str, settings.nfs_minor_versions))
    nfs_command = ("start", "nfs", minors, settings.nfs_squash)
    return containers.ContainerSpec(
        name=name,
        image=settings.image,
        labels={**labels, SPEAKS: ",".join(speaks)},
        command=("start", MEMBERS[users.kind]) if users else nfs_command if nfs else None,
        hostname=account and account.lower(),
        # Nothing of a domain is found without its own name servers.
        dns=users.dns if users else (),
        mounts=(
            containers.Mount("", "/run", kind="tmpfs", size=64 * 1024**2, mode=0o755),
            containers.Mount(state_volume, "/var/lib/samba", kind="volume"),
            containers.Mount(shares_directory, "/shares", read_only=True, propagation="rslave"),
        ),
        capabilities=CAPABILITIES + (NFS_CAPABILITIES if nfs else ()),
        security=(f"seccomp={_seccomp()}",) if nfs else (),
        read_only_root=True,
        no_new_privileges=True,
        limits=containers.Limits(memory=settings.memory, pids=settings.pids),
        sysctls=SYSCTLS,
        ulimits=ULIMITS,
        restart="unless-stopped",
    )


def spoken(labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the protocols that a container with these labels speaks, by name."""
    return tuple(labels.get(SPEAKS, protocols.DEFAULT).split(","))


def _seccomp() -> str:
    """Return the system calls that a server with NFS may make.

    The engine's own list lacks name_to_handle_at, without which Ganesha can't name a file.
    """
    text = (importlib.resources.files("container_stack.shares") / "seccomp.json").read_text()
    return json.dumps(json.loads(text), separators=(",", ":"))
