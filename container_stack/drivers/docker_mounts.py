# SPDX-License-Identifier: Apache-2.0
"""What Docker has mounted of one driver's volumes, and how that is kept true."""

import collections
import logging
import os
from collections.abc import Collection, Sequence

from container_stack import exceptions
from container_stack.drivers import docker_traffic, docker_uses
from container_stack.host import containers
from container_stack.volumes import model, service, uses

LOG = logging.getLogger(__name__)


class Mounts:
    """The uses of one driver's volumes by one engine's containers.

    :param directory: where volumes are mounted for Docker, each under its name.
    :param engine: whose containers use them; None where nobody can be asked.
    :param grace: seconds in which a container starts after its volume was mounted.
    """

    def __init__(
        self,
        volumes: service.VolumeService,
        directory: str,
        engine: containers.Engine | None,
        grace: float,
    ) -> None:
        self._volumes = volumes
        # As the service has it.
        self._directory = os.path.realpath(directory)
        self._engine = engine
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

    def settle(self, live: docker_uses.Live | None) -> Sequence[str]:
        """End the uses of volumes that no running container has, and see that others have one.

        A volume that Docker asked about within the grace is left alone, and a mount that is gone
        and shouldn't be is made again.

        :param live: None means that nobody knows.
        :return: what was done, in words.
        """
        if live is None:
            return self._volumes.reconcile()
        # Names are unique in an engine, whatever it calls the driver.
        paths = collections.defaultdict(set)
        for (_driver, name), ids in live.items():
            for container in ids:
                paths[container].add(self.path(name))
        alive = {container: frozenset(each) for container, each in paths.items()}
        done = [*self._volumes.reconcile(alive, grace=self._grace), *self._adopt_all(live)]
        self.traffic.forget(self._grace)
        return done

    def end_what_a_crash_left(self, name: str) -> None:
        """End uses of a volume that Docker wants to be rid of, if no container runs with it.

        Docker asks only when it has no container with the volume.
        """
        counted = self.counted().get(name, ())
        if not counted or self._engine is None:
            return
        try:
            live = docker_uses.live(self._engine)
        except exceptions.EngineUnavailable:
            return
        if name not in {used for _driver, used in live}:
            for use in counted:
                for _each in range(use.count):
                    self._volumes.unmount(use.volume_id, use.path, holder=use.holder)

    def _adopt_all(self, live: docker_uses.Live) -> list[str]:
        counted = self.counted()
        done: list[str] = []
        for (driver, name), ids in live.items():
            if driver == self._volumes.driver and name not in counted:
                with self.traffic.quiet(name, self._grace) as quiet:
                    done += self._adopt(name, ids) if quiet else ()
        return done

    def _adopt(self, name: str, ids: Collection[str]) -> list[str]:
        """Count a use that a running container has, though its Mount is known no more."""
        container = min(ids)
        try:
            self._volumes.mount(self._volumes.find(name).id, self.path(name), holder=container)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "Container %(container)s uses %(name)s, which can't be counted: %(why)s",
                {"container": container[:12], "name": name, "why": exc},
            )
            return []
        return [f"{name}: container {container[:12]} uses it; counted that."]
