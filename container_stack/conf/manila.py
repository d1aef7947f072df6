# SPDX-License-Identifier: Apache-2.0
"""Options of the Manila back end's section in manila.conf."""

from collections.abc import Callable
from typing import Any

from oslo_config import cfg, types

from container_stack.host import containers
from container_stack.rootwrap import commands
from container_stack.shares import assembly, image, security

GIB = 1024**3
MIB = 1024**2

OPTS: list[cfg.Opt] = [
    cfg.StrOpt(
        "container_stack_state_dir",
        default=commands.STATE_DIR,
        deprecated_name="container_volume_mount_path",
        help="Directory for volumes, mount points and locks. The service's user must own it, and "
        "nobody else may write there. The rootwrap filters are made for one directory: after a "
        "change run `container-stack rootwrap install --state-dir DIRECTORY`.",
    ),
    cfg.StrOpt(
        "container_stack_root_helper",
        help="Command that starts the rootwrap daemon as root. Unset means `sudo -n "
        "container-stack-rootwrap-daemon /etc/container-stack/rootwrap.conf`, and for a service "
        "that runs as root the same daemon without sudo. Set it when the daemon or its "
        "configuration are elsewhere, such as in a virtual environment.",
    ),
    cfg.StrOpt(
        "container_stack_docker_url",
        default=containers.DEFAULT_URL,
        help="Where the Docker Engine listens: unix:///path or tcp://host:port. The engine must "
        "run on this host, because shares are mounted here. Who may use it is as good as root.",
    ),
    cfg.StrOpt(
        "container_stack_docker_ca_cert",
        help="File with the CA certificates that the engine's certificate is checked against; "
        "needed for tcp://.",
    ),
    cfg.StrOpt(
        "container_stack_docker_client_cert",
        help="File with the certificate that this service shows the engine.",
    ),
    cfg.StrOpt(
        "container_stack_docker_client_key",
        help="File with the private key to the client certificate.",
    ),
    cfg.StrOpt(
        "container_image_name",
        default=image.REFERENCE,
        help="Image of the share servers. `container-stack image build samba` makes the default "
        "one. Images made for Manila's own container driver can't serve here.",
    ),
    cfg.StrOpt(
        "container_stack_storage",
        default="loop",
        help="Where shares are stored, by entry-point name: `loop` keeps each share in a sparse "
        "file and needs no preparation; `lvm` uses the volume group of container_volume_group "
        "and suits production.",
    ),
    cfg.StrOpt(
        "container_stack_filesystem",
        default="xfs",
        choices=["xfs", "ext4", "btrfs"],
        help="File system of new shares. xfs grows while in use and can share blocks between "
        "copies; btrfs can shrink too.",
    ),
    cfg.IntOpt(
        "container_stack_pool_size_gb",
        min=1,
        help="Most that all shares together may take, in GiB, for `loop` storage. Unset means "
        "what the file system below container_stack_state_dir has.",
    ),
    cfg.StrOpt(
        "container_volume_group",
        default="manila_docker_volumes",
        help="LVM volume group for `lvm` storage; it must exist.",
    ),
    cfg.StrOpt(
        "container_stack_thin_pool",
        help="Thin pool in the volume group. Unset means thick volumes, which can't run out of "
        "space later; set it for snapshots that cost nothing until data changes.",
    ),
    cfg.DictOpt(
        "container_stack_storage_options",
        default={},
        help="Settings that only a third party's storage backend knows, as name:value pairs. "
        "The backends of container-stack take none.",
    ),
    cfg.BoolOpt(
        "container_stack_previous_versions",
        default=False,
        help="Whether users see every snapshot of a CIFS share in the share itself, as Windows' "
        "previous versions. Each snapshot then takes a volume of its own from the beginning, "
        "which costs nothing where storage shares blocks (a thin pool, or `loop` on xfs or "
        "btrfs) and as much as the share elsewhere; so it is off.",
    ),
    cfg.StrOpt(
        "container_linux_bridge_name",
        help="Existing Linux bridge to plug share servers into, for networks with a router of "
        "their own. Unset means a network of the engine's for each subnet.",
    ),
    cfg.StrOpt(
        "container_ovs_bridge_name",
        help="Existing Open vSwitch bridge to plug share servers into, such as br-int with "
        "Neutron; set neutron_host_id as well.",
    ),
    cfg.ListOpt(
        "container_stack_site_addresses",
        default=[],
        item_type=types.IPAddress(),
        help="Addresses of this host at which one server serves all shares, with "
        "driver_handles_share_servers = False: most sites have one of IPv4, one of IPv6, or one of "
        "each. Clients prefer the first. Port 445 must be free on each; CIFS is the only protocol. "
        "A change takes effect at the next start; users, rules and data stay.",
    ),
    cfg.IntOpt(
        "container_stack_memory_mb",
        default=512,
        min=64,
        help="Most memory that a share server may use, in MiB. Samba takes 10 MiB and about 2 MiB "
        "for each session; the rest serves as cache.",
    ),
    cfg.IntOpt(
        "container_stack_pids_limit",
        default=4096,
        min=64,
        help="Most processes and threads in a share server. Samba needs up to 17 for each of the "
        "200 sessions that it admits.",
    ),
    cfg.ListOpt(
        "container_stack_share_protocols",
        item_type=types.String(choices=["CIFS", "NFS"]),
        default=["CIFS"],
        help="What new share servers speak. CIFS must be among them. With NFS a server may name "
        "and open files by handles, so who breaks into its NFS service can reach the host's "
        "files; without, he gets no further than the server's own shares. Servers that exist "
        "stay as they were made.",
    ),
    cfg.ListOpt(
        "container_stack_nfs_minor_versions",
        item_type=types.Integer(min=0, max=2),
        default=[1, 2],
        help="Minor versions of NFS 4 that clients may speak. Add 0 for clients that know no "
        "sessions, such as macOS and libnfs: they are slower to recover and have weaker locks. "
        "NFS 3 is never served.",
    ),
    cfg.StrOpt(
        "container_stack_nfs_squash",
        default="none",
        choices=["none", "root", "all"],
        help="Whose requests count as those of nobody (65534) in NFS shares: none, so that the "
        "root of an admitted client is the share's root; those of the clients' root; or all. "
        "It holds for all shares of a server that is made from now on.",
    ),
    cfg.StrOpt(
        "container_stack_ldap_ca_file",
        default=security.CA_FILE,
        help="File with the CA certificates that those of LDAP directories are checked against, "
        "with share networks that have a security service of the type `ldap`. Tenants can't name "
        "one. Share servers keep those that they are made with.",
    ),
    cfg.BoolOpt(
        "container_stack_ldap_tls",
        default=True,
        help="Whether LDAP directories must speak TLS (StartTLS at port 389). Without it hashes of "
        "users' passwords and the password that reads them cross the tenant's network in the "
        "clear, and who is on the way can say who anybody is: for trials only. Share servers stay "
        "as they were made.",
    ),
    cfg.FloatOpt(
        "container_stack_start_timeout",
        default=60.0,
        min=1,
        help="Seconds that a share server may take until it answers. Raise it for slow disks.",
    ),
]


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """Return the options for oslo-config-generator, under an example section."""
    return [("container", OPTS)]


def owner(group: str) -> str:
    """Return what names a back end among all on this host.

    :param group: its section.
    """
    return f"manila-{group}"


def group(owner: str) -> str:
    """Return the section of the back end that has this name."""
    return owner.removeprefix("manila-")


def settings(get: Callable[[str], Any], owner: str) -> assembly.Settings:
    """Return the plain values that the core needs.

    :param get: gives the value of an option, such as ``configuration.safe_get``.
    :param owner: names this back end among all on this host.
    """
    pool_size = get("container_stack_pool_size_gb")
    lvm = get("container_stack_storage") == "lvm"
    return assembly.Settings(
        owner=owner,
        state_dir=get("container_stack_state_dir").rstrip("/"),
        root_helper=get("container_stack_root_helper"),
        docker_url=get("container_stack_docker_url"),
        tls=_tls(get),
        image=get("container_image_name"),
        storage=get("container_stack_storage"),
        filesystem=get("container_stack_filesystem"),
        pool_size=pool_size * GIB if pool_size else None,
        volume_group=get("container_volume_group") if lvm else None,
        thin_pool=get("container_stack_thin_pool"),
        storage_options=get("container_stack_storage_options"),
        previous_versions=get("container_stack_previous_versions"),
        linux_bridge=get("container_linux_bridge_name"),
        ovs_bridge=get("container_ovs_bridge_name"),
        site_addresses=tuple(get("container_stack_site_addresses") or ()),
        memory=get("container_stack_memory_mb") * MIB,
        pids=get("container_stack_pids_limit"),
        start_timeout=get("container_stack_start_timeout"),
        protocols=tuple(get("container_stack_share_protocols")),
        nfs_minor_versions=tuple(get("container_stack_nfs_minor_versions")),
        nfs_squash=get("container_stack_nfs_squash"),
        trust=security.Trust(
            get("container_stack_ldap_ca_file"), tls=get("container_stack_ldap_tls")
        ),
    )


def _tls(get: Callable[[str], Any]) -> containers.TLS | None:
    ca_cert = get("container_stack_docker_ca_cert")
    if not ca_cert:
        return None
    return containers.TLS(
        ca_cert=ca_cert,
        client_cert=get("container_stack_docker_client_cert"),
        client_key=get("container_stack_docker_client_key"),
    )
