# SPDX-License-Identifier: Apache-2.0
"""A driver of Open Storage's that a real engine finds, and the engine's own client.

The engine is one of the tests' own, with directories of its own to look for plugins in: an engine
never forgets a plugin, and once that is gone waits for it whenever it hears of an unknown volume.
"""

import contextlib
import json
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from container_stack.drivers import docker_uses, docker_volume
from container_stack.host import containers, images
from container_stack.rootwrap import executor
from container_stack.testing import memory_volumes
from container_stack.volumes import backend, ownership, service, sql

from .. import busybox, dockerd

IMAGE = "cstest-busybox:plugins"

NODE = "cstest-node"
#: Run before dockerd, in a mount namespace of its own: $1 is where it looks for plugins' sockets,
#: $2 for their specifications.
ENTER = """\
mount --make-rshared / && mkdir -p /run/docker/plugins "$1" "$2" &&
mount --bind "$1" /run/docker/plugins &&
mount -t tmpfs cstest /etc/docker && mkdir /etc/docker/plugins &&
mount --bind "$2" /etc/docker/plugins && shift 2 && exec "$@"
"""

MakeBackend = Callable[[backend.Options], backend.Backend]


class PluginDockerd(dockerd.Dockerd):
    """An engine with plugins of its own.

    :ivar sockets: where it looks for their sockets; ``specs`` is for their specifications.
    """

    def __init__(self, directory: Path, options: Sequence[str] = ()) -> None:
        self.sockets, self.specs = directory / "plugins", directory / "specs"
        entered = ("sh", "-c", ENTER, "sh", str(self.sockets), str(self.specs))
        private = ("unshare", "--mount", "--propagation", "slave", *entered)
        super().__init__(directory, options, private)

    def docker(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run Docker's own client."""
        done = subprocess.run(
            ["docker", "--host", self.url, *argv],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert not check or done.returncode == 0, (argv, done.stderr)
        return done


@contextlib.contextmanager
def plugin_dockerd(directory: Path, *options: str) -> Iterator[PluginDockerd]:
    """Start such an engine, with the image :data:`IMAGE`, and end it."""
    directory.mkdir(exist_ok=True)
    started = PluginDockerd(directory, options)
    started.start()
    try:
        engine = containers.Engine(started.url)
        busybox.import_image(images.Images(engine), IMAGE)
        engine.close()
        yield started
    finally:
        started.stop()


class World:
    """One driver in this process, for an engine.

    :param make: the backend.
    """

    def __init__(
        self,
        engine: PluginDockerd,
        directory: Path,
        make: MakeBackend = memory_volumes.MemoryVolumes,
        *,
        name: str = "",
        grace: float = 0.0,
        patience: float = docker_volume.PATIENCE,
    ) -> None:
        self.name = name or f"cstest-f-{uuid.uuid4().hex[:8]}"
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.dockerd = engine
        self.docker = engine.docker
        self.socket = engine.sockets / f"{self.name}.sock"
        self.engine = containers.Engine(engine.url)
        self.registry = sql.open(f"sqlite:///{directory}/osd.sqlite")
        self.backend = make(
            backend.Options(
                name=self.name,
                executor=executor.Executor(["sudo", "-n"]),
                directory=str(directory / "backends" / self.name),
                node_id=NODE,
            )
        )
        self.volumes = service.VolumeService(
            self.name,
            self.backend,
            self.registry,
            ownership.Alone(self.registry, NODE),
            state_dir=str(directory),
        )
        self.mounts = directory / "mounts" / self.name
        self.plugin = docker_volume.DockerVolumes(
            self.volumes,
            str(self.socket),
            str(self.mounts),
            engine=self.engine,
            grace=grace,
            patience=patience,
        )
        self.reconciler = docker_uses.Reconciler(self.engine, [self.plugin])

    @contextlib.contextmanager
    def running(self) -> Iterator["World"]:
        """Serve, and in the end remove what there is."""
        self.volumes.start()
        self.plugin.start()
        try:
            yield self
        finally:
            self.clear()
            self.plugin.stop()
            self.volumes.stop()
            self.registry.close()
            self.engine.close()

    def clear(self) -> None:
        for use in self.volumes.uses():
            for _ in range(use.count):
                self.volumes.unmount(use.volume_id, use.path, holder=use.holder)
        for volume in sorted(self.volumes.list(), key=lambda each: not each.is_snapshot):
            with contextlib.suppress(Exception):
                self.volumes.delete(volume.id)

    def create(self, name: str, *options: str) -> None:
        words = [word for each in options for word in ("-o", each)]
        self.docker("volume", "create", "-d", self.name, *words, name)

    def inspect(self, name: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(self.docker("volume", "inspect", name).stdout)
        return found[0]

    def counts(self) -> list[int]:
        """How often each holder has mounted something, sorted."""
        return sorted(use.count for use in self.volumes.uses())

    def ask(self, path: str, body: object = None, timeout: float = 30) -> dict[str, Any]:
        """Ask the plugin as the engine does."""
        return ask(self.socket, path, json.dumps(body).encode(), timeout)[1]


def ask(
    path: Path, route: str, body: bytes = b"", timeout: float = 30, method: str = "POST"
) -> tuple[int, dict[str, Any]]:
    """Return the status and the answer of a server on a unix socket."""
    argv = ["curl", "-sS", "--unix-socket", str(path), "-X", method, "-w", "\n%{http_code}"]
    done = subprocess.run(
        [*argv, "--data-binary", "@-", "-m", str(timeout), f"http://localhost{route}"],
        input=body,
        capture_output=True,
        check=True,
    )
    text, _, status = done.stdout.rpartition(b"\n")
    return int(status), json.loads(text)


def at_once(functions: Sequence[Callable[[], object]]) -> None:
    """Call all of them in threads of their own, and wait."""
    threads = [threading.Thread(target=function) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
