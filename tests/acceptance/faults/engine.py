# SPDX-License-Identifier: Apache-2.0
"""An engine that may be killed, with networks of its own, to which this host has a route."""

import contextlib
import ipaddress
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker
from functional import dockerd, segments

from acceptance import host


class Engine:
    """That engine; its networks are in a network namespace of its own."""

    def __init__(self, server: dockerd.Dockerd) -> None:
        self.url = server.url
        self._server = server

    def crash(self) -> None:
        """Kill it; its containers run on."""
        self._server.kill()

    def start(self) -> None:
        """Start it again."""
        self._server.start()

    def kill_samba(self, owner: str) -> None:
        """Kill every smbd in its owner's containers."""
        label = {"label": f"container_stack.owner={owner}"}
        with self._client() as client:
            for each in client.containers.list(filters=label):
                for pid, command in _processes(each):
                    if Path(command.split()[0]).name.startswith("smbd"):
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)

    def things(self) -> list[str]:
        """Return the names of all that it has, but for what every engine has."""
        with self._client() as client:
            networks = {each.name for each in client.networks.list()} - {"bridge", "host", "none"}
            return [
                *(f"container {each.name}" for each in client.containers.list(all=True)),
                *(f"network {each}" for each in networks),
                *(f"volume {each.name}" for each in client.volumes.list()),
            ]

    def load(self, reference: str) -> None:
        """Give it an image of the usual engine."""
        with host.engine() as other, self._client() as client:
            client.images.load(b"".join(other.images.get(reference).save(named=True)))

    @contextlib.contextmanager
    def _client(self) -> Iterator[docker.DockerClient]:
        client = docker.DockerClient(self.url, timeout=30)
        try:
            yield client
        finally:
            client.close()


@contextlib.contextmanager
def running(directory: Path, subnet: ipaddress.IPv4Network) -> Iterator[Engine]:
    """Run such an engine.

    :param directory: all that it has is below; the path is short, for sockets.
    :param subnet: of the networks that it will make; this host reaches them through it.
    """
    with contextlib.ExitStack() as undo:
        around = undo.enter_context(segments.Outside(f"cstest-f{os.getpid() % 10**6}"))
        forward = ["sysctl", "-qw", "net.ipv4.ip_forward=1"]
        subprocess.run(["nsenter", f"--net={around.inside}", *forward], check=True)
        segments.ip("link", "set", "lo", "up", inside=around.inside)
        segments.ip("route", "add", str(subnet), "via", around.addresses[0])
        server = dockerd.Dockerd(directory, within=["nsenter", f"--net={around.inside}"])
        undo.callback(server.stop)
        server.start()
        yield Engine(server)


def _processes(container: docker.models.containers.Container) -> list[tuple[int, str]]:
    found = container.top(ps_args="-eo pid,args")
    return [(int(row[0]), row[1]) for row in found["Processes"]]
