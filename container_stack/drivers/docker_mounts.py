# SPDX-License-Identifier: Apache-2.0
"""What Docker has mounted of one driver's volumes, and how that is kept true."""

import collections
import functools
import logging
import os
from collections.abc import Callable, Collection, Sequence

from container_stack import exceptions
from container_stack.drivers import docker_traffic, docker_uses
from container_stack.host import containers
from container_stack.volumes import model, service, uses

LOG = logging.getLogger(__name__)


class Mounts:
    """The uses of one driver's volumes by one engine's containers.

    :param directory: where volumes are mounted for Docker, each under its name.
    :param engine: whose containers use them; None where nobody can be asked.
    :param names: what the engine calls the driver, where that isn't the driver's own name.
    :param grace: seconds in which a container starts after its volume was mounted.
    """

    def __init__(
        self,
        volumes: service.VolumeService,
        directory: str,
        engine: containers.Engine | None,
        names: Collection[str],
        grace: float,
    ) -> None:
        self._volumes = volumes
        # As the service has it.
        self._directory = os.path.realpath(directory)
        self._engine = engine
        self._names = frozenset(names) or frozenset([volumes.driver])
        self._grace = grace
        self.traffic = docker_traffic.Traffic()

    def path(self, name: str) -> str:
        """Return where a volume is mounted for Docker."""
        return os.path.join(self._directory, name)

    def counted(self) -> dict[str, list[uses.Use]]:
        """Return what Docker has mounted, by the volume's name."""
        found = collections.defaultdict(list)
        for use in self._volumes.uses():
            directory, name = os.path.split(use.path)
            if use.holder and directory == self._directory:
                found[name].append(use)
        return found

    def mountpoint(self, volume: model.Volume) -> str:
        """Return where Docker finds a volume, or "" while it isn't mounted there."""
        path = self.path(volume.name)
        here = volume.attached_on == self._volumes.node_id
        return path if here and path in volume.mount_paths else ""

    def settle(self, live: docker_uses.Live) -> Sequence[str]:
        """End the uses of volumes that no running container has, and see that others have one.

        A volume that Docker asked about within the grace is left alone.

        :return: what was done, in words.
        """
        users = {name: ids for (driver, name), ids in live.items() if driver in self._names}
        counted = self.counted()
        done: list[str] = []
        for name in sorted({*counted, *users}):
            change = self._settling(name, counted.get(name, ()), users.get(name, frozenset()))
            if change is not None:
                with self.traffic.quiet(name, self._grace) as quiet:
                    done += _worded(change) if quiet else ()
        self.traffic.forget(self._grace)
        return done

    def _settling(
        self, name: str, counted: Sequence[uses.Use], users: Collection[str]
    ) -> Callable[[], str] | None:
        if counted and not users:
            return functools.partial(self._end, name, counted)
        if users and not counted:
            return functools.partial(self._adopt, name, min(users))
        return None

    def end_what_a_crash_left(self, name: str) -> None:
        """End uses of a volume that Docker wants to be rid of, if no container runs with it.

        Docker asks only when it has no container with the volume.
        """
        counted = self.counted().get(name, ())
        if counted and self._engine is not None:
            try:
                live = docker_uses.live(self._engine)
            except exceptions.EngineUnavailable:
                return
            if not any((driver, name) in live for driver in self._names):
                self._end(name, counted)

    def _end(self, name: str, counted: Sequence[uses.Use]) -> str:
        for use in counted:
            for _each in range(use.count):
                self._volumes.unmount(use.volume_id, use.path, holder=use.holder)
        return f"{self._volumes.driver}: no running container has {name}; ended its uses"

    def _adopt(self, name: str, container: str) -> str:
        volume = self._volumes.find(name)
        self._volumes.mount(volume.id, self.path(name), holder=container)
        return f"{self._volumes.driver}: container {container[:12]} uses {name}; counted it"


def _worded(change: Callable[[], str]) -> list[str]:
    try:
        return [change()]
    except exceptions.ContainerStackError as exc:
        LOG.warning("Couldn't reconcile with the Docker Engine: %(why)s", {"why": exc})
        return []
