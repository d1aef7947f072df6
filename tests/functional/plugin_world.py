# SPDX-License-Identifier: Apache-2.0
"""A driver of Open Storage's that a real engine finds, and the engine's own client.

The directory in which an engine looks for plugins is the same for all: what is in it has a name
that nobody else has, and is never left behind, for each call of the engine's would wait for it.
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
from container_stack.host import containers
from container_stack.rootwrap import executor
from container_stack.testing import memory_volumes
from container_stack.volumes import backend, ownership, service, sql

PLUGINS = Path("/run/docker/plugins")
NODE = "cstest-node"

MakeBackend = Callable[[backend.Options], backend.Backend]


class World:
    """One driver in this process, and Docker's client.

    :param make: the backend.
    :param url: the engine's.
    :param sockets: where that engine looks for plugins.
    """

    def __init__(
        self,
        directory: Path,
        make: MakeBackend = memory_volumes.MemoryVolumes,
        *,
        url: str = containers.DEFAULT_URL,
        sockets: Path = PLUGINS,
        name: str = "",
        grace: float = 0.0,
        patience: float = docker_volume.PATIENCE,
    ) -> None:
        self.name = name or f"cstest-f-{uuid.uuid4().hex[:8]}"
        self.directory = directory
        self.url = url
        self.socket = sockets / f"{self.name}.sock"
        self.engine = containers.Engine(url)
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

    def docker(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return docker(self.url, *argv, check=check)

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


def docker(url: str, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["docker", "--host", url, *argv], capture_output=True, text=True, check=False, timeout=300
    )
    assert not check or done.returncode == 0, (argv, done.stderr)
    return done


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
