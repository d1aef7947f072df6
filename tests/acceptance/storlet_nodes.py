# SPDX-License-Identifier: Apache-2.0
"""Nodes of a Swift on one machine, each with an engine and with storlets' directories of its own.

A node is a place: processes in it have its directories mounted where all nodes have theirs, so
that one gateway configuration fits all, as in a real deployment.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator, Sequence
from concurrent import futures
from pathlib import Path
from typing import Any

import docker
import docker.errors
from functional import dockerd, storlet_host

from container_stack.host import containers

#: What :attr:`Node.within` does: mount, then become the command.
_ENTER = 'mount --bind "$1" "$2" && mount --bind "$3" "$4" && shift 4 && exec "$@"'


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A node.

    :param within: a command that runs the command after it on this node.
    :param url: of the node's engine.
    """

    name: str
    within: tuple[str, ...]
    url: str

    @contextlib.contextmanager
    def engine(self) -> Iterator[docker.DockerClient]:
        """Connect to the engine, without container-stack's own eyes."""
        client = docker.DockerClient(self.url, timeout=30)
        try:
            yield client
        finally:
            client.close()

    def image(self, reference: str) -> str | None:
        """Return the ID of an image, or None if the node hasn't got it."""
        with self.engine() as client, contextlib.suppress(docker.errors.ImageNotFound):
            return str(client.images.get(reference).id)
        return None

    def images(self) -> set[str]:
        """Return the IDs of all images that the node holds."""
        with self.engine() as client:
            return {str(image.id) for image in client.images.list()}

    def tags(self) -> set[str]:
        """Return all names of images."""
        with self.engine() as client:
            return {tag for image in client.images.list() for tag in image.tags}

    def containers(self) -> list[dict[str, Any]]:
        """Return the engine's words on all containers, the stopped ones too."""
        with self.engine() as client:
            return [
                client.api.inspect_container(each["Id"]) for each in client.api.containers(all=True)
            ]


@contextlib.contextmanager
def running(directory: Path, shared: Path, count: int) -> Iterator[tuple[Node, ...]]:
    """Run nodes, whose engines hold the operator's base image.

    :param shared: a directory; in each node it is one of the node's own.
    """
    shared.mkdir()
    with contextlib.ExitStack() as undo, futures.ThreadPoolExecutor(count) as pool:
        made = []
        for number in range(1, count + 1):
            place = directory / f"node-{number}"
            engine = dockerd.Dockerd(place, within=_make(place, shared))
            made.append((place.name, engine))
            undo.callback(engine.stop)
        list(pool.map(_start, [engine for _name, engine in made]))
        yield tuple(
            Node(name, _within(directory / name, shared), engine.url) for name, engine in made
        )


def _start(engine: dockerd.Dockerd) -> None:
    engine.start()
    client = containers.Engine(engine.url)
    storlet_host.load(client)
    client.close()


def _make(place: Path, shared: Path) -> Sequence[str]:
    # As they are once any storlet has run.
    for name in ("pipes", "storlets"):
        (place / "storlets" / name / "scopes").mkdir(parents=True)
    # A copy that knows its node: what runs there can tell where it is.
    shutil.copytree(storlet_host.NATIVE, place / "native")
    (place / "native/node").write_text(place.name)
    return _within(place, shared)


def _within(place: Path, shared: Path) -> tuple[str, ...]:
    mounts = (place / "storlets", shared, place / "native", storlet_host.NATIVE)
    unshare = ("unshare", "--mount", "--propagation", "slave")
    return (*unshare, "sh", "-c", _ENTER, "node", *map(str, mounts))
