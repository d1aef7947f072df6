# SPDX-License-Identifier: Apache-2.0
"""Putting a share service together from plain values: what a driver or your own service calls."""

import dataclasses
import os
from collections.abc import Mapping

from container_stack import exceptions, plugins
from container_stack.host import (
    containers,
    filesystem,
    images,
    locks,
    network,
    plug,
    records,
    storage,
    transfers,
)
from container_stack.rootwrap import commands, executor
from container_stack.shares import (
    container,
    image,
    limits,
    protocols,
    security,
    servers,
    service,
    site,
    volumes,
    wiring,
)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How shares are to be served on this host.

    :param owner: names this user of the host among all; others' things are never touched.
    :param state_dir: directory for volumes, mount points and locks; this process must own it.
    :param root_helper: command that starts the rootwrap daemon; None for the usual one.
    :param storage: entry-point name of the storage backend.
    :param pool_size: bytes that all volumes together may take; None for all there is.
    :param storage_options: what only a third party's backend knows.
    :param linux_bridge: existing bridge to plug servers into, instead of the engine's networks.
    :param site_addresses: addresses of this host, at which one server serves all shares.
    :param memory: bytes for each share server.
    :param start_timeout: seconds that a share server may take until it answers.
    :param protocols: what new share servers speak, by name; CIFS is always among them.
    :param nfs_minor_versions: those of NFS 4 that clients may speak.
    :param nfs_squash: whose requests count as nobody's: none, the clients' root's, or all.
    :param trust: how LDAP directories prove that they are the tenants'.
    :param previous_versions: clients see every snapshot in the share itself, too.
    """

    owner: str
    state_dir: str = commands.STATE_DIR
    root_helper: str | None = None
    docker_url: str = containers.DEFAULT_URL
    tls: containers.TLS | None = None
    image: str = image.REFERENCE
    storage: str = "loop"
    filesystem: str = "xfs"
    pool_size: int | None = None
    volume_group: str | None = None
    thin_pool: str | None = None
    storage_options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    linux_bridge: str | None = None
    ovs_bridge: str | None = None
    site_addresses: tuple[str, ...] = ()
    memory: int = 512 * 1024**2
    pids: int = 4096
    start_timeout: float = 60.0
    previous_versions: bool = False
    protocols: tuple[str, ...] = ("CIFS",)
    nfs_minor_versions: tuple[int, ...] = (1, 2)
    nfs_squash: str = "none"
    trust: security.Trust = dataclasses.field(default_factory=security.Trust)


def open_service(settings: Settings) -> service.ShareService:
    """Return a share service. Nothing is started or contacted until it is used.

    :raises InvalidRequest: the settings contradict each other.
    :raises NotFound: there is no storage backend of this name.
    """
    engine = containers.Engine(settings.docker_url, tls=settings.tls)
    run = executor.Executor(settings.root_helper, state_dir=settings.state_dir)
    return assemble(settings, engine, run)


def assemble(
    settings: Settings, engine: containers.Engine, run: executor.Executor
) -> service.ShareService:
    """Return a share service over this engine and this executor."""
    if settings.site_addresses and settings.protocols != ("CIFS",):
        raise exceptions.InvalidRequest(
            "A server on the host's own addresses speaks CIFS only: it may see the engine's "
            "address in place of the clients', which NFS rules name."
        )
    object_locks = locks.ObjectLocks(os.path.join(settings.state_dir, "locks"))
    filesystems = filesystem.Filesystems(run)
    mounts = os.path.join(settings.state_dir, "mounts")
    share_servers = servers.ShareServers(
        engine,
        _wires(settings, engine, run, object_locks),
        object_locks,
        container.Settings(
            image=settings.image,
            memory=settings.memory,
            pids=settings.pids,
            start_timeout=settings.start_timeout,
            protocols=settings.protocols,
            nfs_minor_versions=settings.nfs_minor_versions,
            nfs_squash=settings.nfs_squash,
            trust=settings.trust,
        ),
        owner=settings.owner,
        tree=os.path.join(mounts, "shares"),
        changed=records.Records(os.path.join(settings.state_dir, "servers")),
    )
    held = volumes.ShareVolumes(
        _volumes(settings, run),
        filesystems,
        share_servers,
        limits.Throttle(engine, run),
        transfers.Transfers(run, filesystems),
        owner=settings.owner,
    )
    return service.ShareService(
        held, object_locks, mounts=mounts, previous_versions=settings.previous_versions
    )


def check(settings: Settings) -> None:
    """Refuse to go on where this host can't serve, naming what is missing and its cure.

    :raises EngineUnavailable: the engine doesn't answer.
    :raises HostNotReady: the image, or what the storage stands on, is missing.
    """
    engine = containers.Engine(settings.docker_url, tls=settings.tls)
    found = images.Images(engine).find(settings.image)
    if found is None:
        raise exceptions.HostNotReady(
            f"The engine has no image {settings.image}; make it by "
            "`container-stack image build samba`, or name another in container_image_name."
        )
    if not found.labels.items() >= image.LABELS.items():
        raise exceptions.HostNotReady(
            f"Image {settings.image} isn't one of share servers of this version; make it again by "
            f"`container-stack image build samba --tag {settings.image}`."
        )


def _volumes(settings: Settings, run: executor.Executor) -> storage.Storage:
    factory = plugins.load(plugins.STORAGE, settings.storage)
    pool = storage.Pool(
        run,
        filesystem=settings.filesystem,
        limit=settings.pool_size,
        volume_group=settings.volume_group,
        thin_pool=settings.thin_pool,
        options=settings.storage_options,
    )
    made: storage.Storage = factory(pool)
    return made


def _wires(
    settings: Settings,
    engine: containers.Engine,
    run: executor.Executor,
    object_locks: locks.ObjectLocks,
) -> wiring.Wiring:
    if settings.linux_bridge and settings.ovs_bridge:
        raise exceptions.InvalidRequest("Give a Linux bridge or an Open vSwitch bridge, not both.")
    bridge = settings.linux_bridge or settings.ovs_bridge
    if settings.site_addresses:
        if bridge:
            raise exceptions.InvalidRequest("A server on this host's addresses is on no bridge.")
        if set(settings.protocols) != {protocols.DEFAULT}:
            raise exceptions.InvalidRequest("A server on this host's addresses speaks CIFS only.")
        return site.HostAddresses()
    if bridge:
        return wiring.Bridged(plug.Plugs(run), bridge, ovs=bool(settings.ovs_bridge))
    networks = network.ContainerNetworks(engine, object_locks, run, owner=settings.owner)
    return wiring.EngineNetworks(networks, engine)
