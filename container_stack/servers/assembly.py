# SPDX-License-Identifier: Apache-2.0
"""Putting the service of servers together from plain values: what a driver calls."""

import dataclasses
import os
from collections.abc import Sequence

from container_stack.host import containers, locks
from container_stack.host import images as engine_images
from container_stack.rootwrap import commands, executor
from container_stack.servers import (
    disks,
    ephemerals,
    images,
    interfaces,
    lives,
    quotas,
    readiness,
    records,
    service,
    snapshots,
    spec,
)
from container_stack.servers.moving import move_recovery, moves, rescue, roots, states

_DEFAULTS, _DISKS = spec.Defaults(), disks.Settings()


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How servers are to be kept on this host.

    :param owner: names this user of the host among all; others' things are never touched.
    :param state_dir: directory for records, mount points and locks, of this owner alone.
    :param root_helper: command that starts the rootwrap daemon; None for the usual one.
    :param engine_timeout: seconds that the engine may keep silent.
    :param shared_directory: where images may lie ready, named by their ids.
    :param snapshots_directory: where snapshots are kept on their way; None streams them.
    :param image_size: bytes of the largest image, packed and unpacked.
    :param disk_quota: "auto", "required" or "none".
    :param volumes: how they are reached, and what becomes of them.
    :param accept_forwarding: insert a rule that lets packets between servers' bridges pass.
    :param bridge_taps: put ports bound as taps on a bridge of their network; see
        :class:`interfaces.Interfaces`.
    :param filter_taps: keep those from speaking for others.
    :param user_namespaces: the engine must have them.
    """

    owner: str
    state_dir: str = commands.STATE_DIR
    root_helper: str | None = None
    docker_url: str = containers.DEFAULT_URL
    tls: containers.TLS | None = None
    engine_timeout: float = 60.0
    defaults: spec.Defaults = _DEFAULTS
    shared_directory: str | None = None
    snapshots_directory: str | None = None
    image_size: int = 64 * 1024**3
    disk_quota: str = quotas.AUTO
    volumes: disks.Settings = _DISKS
    accept_forwarding: bool = False
    bridge_taps: bool = True
    filter_taps: bool = True
    user_namespaces: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """All that keeps servers; nothing of it is in memory only."""

    engine: containers.Engine
    executor: executor.Executor
    servers: service.Servers
    interfaces: interfaces.Interfaces
    disks: disks.Disks
    images: images.ServerImages
    snapshots: snapshots.Snapshots
    moves: moves.Moves
    rescues: rescue.Rescues
    recovery: move_recovery.MoveRecovery
    disk_quota: str
    user_namespaces: bool

    def start(self) -> Sequence[str]:
        """Finish or undo what a crash left, and plug again what runs; return it in words.

        :raises HostNotReady: the engine lacks what must be.
        """
        life = self.servers.life
        lacking = readiness.check(
            self.engine, user_namespaces=self.user_namespaces, runtime=life.defaults.runtime
        )
        quota = quotas.choose(
            self.engine, engine_images.Images(self.engine), self.disk_quota, owner=life.owner
        )
        life.defaults = dataclasses.replace(life.defaults, quota=quota)
        return [*lacking, *self.servers.start(), *self.recovery.recover(), *self.snapshots.start()]

    def close(self) -> None:
        """Close connections and stop the root helper."""
        self.engine.close()
        self.executor.close()


def open_service(settings: Settings) -> Service:
    """Return a service of servers. Nothing is started or contacted until it is used."""
    engine = containers.Engine(
        settings.docker_url, tls=settings.tls, timeout=settings.engine_timeout
    )
    return assemble(
        settings, engine, executor.Executor(settings.root_helper, state_dir=settings.state_dir)
    )


def assemble(settings: Settings, engine: containers.Engine, run: executor.Executor) -> Service:
    """Return a service of servers over this engine and this executor."""
    object_locks = locks.ObjectLocks(os.path.join(settings.state_dir, "locks"))
    network = interfaces.Interfaces(
        run,
        object_locks,
        directory=os.path.join(settings.state_dir, "interfaces"),
        owner=settings.owner,
        bridge_taps=settings.bridge_taps,
        filter_taps=settings.filter_taps,
        admit_taps=settings.accept_forwarding,
    )
    server_disks = disks.Disks(run, settings.volumes)
    life = lives.Lives(
        engine,
        network,
        server_disks,
        ephemerals.Ephemerals(engine, run, settings.owner),
        records.ServerRecords(os.path.join(settings.state_dir, "servers"), settings.owner),
        owner=settings.owner,
        defaults=settings.defaults,
    )
    known = engine_images.Images(engine)
    kept = states.States(engine, known, owner=settings.owner)
    server_roots = roots.Roots(engine, run)
    return Service(
        engine,
        run,
        service.Servers(life, object_locks),
        network,
        server_disks,
        images.ServerImages(
            known,
            object_locks,
            owner=settings.owner,
            state_dir=settings.state_dir,
            shared_directory=settings.shared_directory,
            size=settings.image_size,
        ),
        snapshots.Snapshots(
            engine,
            known,
            object_locks,
            owner=settings.owner,
            directory=settings.snapshots_directory,
        ),
        moves.Moves(life, known, kept, object_locks),
        rescue.Rescues(life, object_locks, server_roots),
        move_recovery.MoveRecovery(life, object_locks, kept, server_roots),
        settings.disk_quota,
        settings.user_namespaces,
    )
