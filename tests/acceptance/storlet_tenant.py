# SPDX-License-Identifier: Apache-2.0
"""An account whose storlets run in images of its own, and what its two managers do by commands.

The account manager builds, tries and uploads; the storlet manager verifies and deploys. Each has
nothing but the variables of his own environment.
"""

import contextlib
import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from functional import storlet_host

from . import host, process, storlet_sources, storlet_world, swift

#: What storlets read.
DATA = b"hemp, tar and canvas\n" * 2000
ACCOUNT = ("--account", swift.MANAGER.account)
SCOPE = swift.MANAGER.project[:13]
#: What the account's sandbox is called on every node, and the only container that is to be there.
SANDBOX = f"/{SCOPE}_{SCOPE}"
#: What the account manager's own images begin with, in his engine.
_TAG = "cstest-storlet-tenant"


@dataclasses.dataclass
class Tenant:
    """The account of :data:`swift.MANAGER`."""

    world: storlet_world.World
    directory: Path
    #: IDs of the images that were uploaded, by their names.
    offered: dict[str, str] = dataclasses.field(default_factory=dict)
    #: Versions that were deployed, by the names of their images.
    versions: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def url(self) -> str:
        """The account's URL."""
        return self.world.swift.url(swift.MANAGER.account)

    @functools.cached_property
    def session(self) -> requests.Session:
        """The account manager's session of Swift's REST API."""
        return self.world.session(swift.MANAGER)

    @property
    def image(self) -> dict[str, str | None]:
        """The ID of the account's image on each node."""
        return self.world.images(f"{SCOPE}:latest")

    @property
    def sandboxes(self) -> dict[str, list[str]]:
        """The names of the containers on each node, without those of other accounts."""
        other = swift.STRANGER.project[:13]
        return {
            node.name: [each["Name"] for each in node.containers() if other not in each["Name"]]
            for node in self.world.nodes
        }

    def manage(self, *words: str) -> storlet_world.Answer:
        """Run a command as the account manager."""
        return self.world.run(swift.MANAGER, *words)

    def operate(self, command: str, *words: str) -> Any:
        """Run a command about the account as the storlet manager, and return what it says."""
        return self.world.run(swift.DEPLOYER, command, *words, *ACCOUNT, "-f", "json").data

    def prepare(self) -> None:
        """Have storlets enabled, the base image published, and something to read."""
        self.world.run(swift.CHIEF, "enable", f"--manager={swift.DEPLOYER.login}", *ACCOUNT)
        self.operate("publish")
        self.session.put(f"{self.url}/hold").raise_for_status()
        self.session.put(f"{self.url}/hold/rope", data=DATA).raise_for_status()
        storlet_sources.put_storlets(self.session, self.url)
        for name, content in {"painter.py": storlet_sources.PAINTER, "rope": DATA}.items():
            (self.directory / name).write_bytes(content)

    def tag(self, name: str) -> str:
        """Return what an image is called in the account manager's engine."""
        return f"{_TAG}-{name}"

    def build(self, name: str, color: str, *lines: str, allergy: str = "") -> Path:
        """Build an image by a Dockerfile, and return its archive.

        :param allergy: a node on which it won't run.
        """
        context = storlet_sources.write_context(
            self.directory / name, storlet_host.BASE, color, *lines
        )
        if allergy:
            storlet_sources.add_allergy(context, allergy)
        archive = self.directory / f"{name}.tar"
        words = (f"--tag={self.tag(name)}", f"--output={archive}", "--network=none")
        self.manage("build", str(context), *words)
        return archive

    def offer(self, name: str, color: str, *lines: str, allergy: str = "") -> str:
        """Build an image and upload it, and return its ID; do nothing if that was done."""
        if name not in self.offered:
            archive = self.build(name, color, *lines, allergy=allergy)
            uploaded = self.manage("upload", str(archive), "-f", "json").data
            assert uploaded["Segmented"]
            self.offered[name] = uploaded["Image"]
        return self.offered[name]

    def trial(self, color: str) -> list[str]:
        """Return the arguments that have the storlet tried in an image of this colour."""
        expected = self.directory / f"rope.{color}"
        expected.write_bytes(storlet_sources.painted(DATA, color))
        return [
            f"--storlet={self.directory / storlet_sources.FILE}",
            f"--main={storlet_sources.MAIN}",
            f"--input={self.directory / 'rope'}",
            f"--expect={expected}",
            f"--expect-metadata=color={color}",
            "--expect-metadata=node=none",
        ]

    def deploy(self, name: str, color: str) -> str:
        """Have an image on all nodes, and return its ID."""
        wanted = self.offer(name, color)
        if set(self.image.values()) == {wanted}:
            return wanted
        if name in self.versions:
            words = ["rollback", "--to", str(self.versions[name])]
        else:
            words = ["deploy", f"{name}.tar"]
        done = self.operate(*words)
        assert done["Image"] == wanted
        self.versions[name] = done["Version"]
        return wanted

    def start(self, *words: str) -> process.Process:
        """Start a command of the storlet manager in the background."""
        return self.world.start(swift.DEPLOYER, *words, *ACCOUNT)

    def paint(self, name: str = "rope") -> requests.Response:
        """Read an object through the storlet."""
        return self.session.get(f"{self.url}/hold/{name}", headers=storlet_sources.RUN)

    def colors(self) -> dict[str, str | None]:
        """Return the colour that each node paints in."""
        found: dict[str, str | None] = {}
        for _ in range(100):
            answer = self.paint()
            color = storlet_sources.color_of(answer, DATA)
            assert color, f"{answer.status_code}: {answer.content[:200]!r}"
            said = storlet_sources.words(answer.headers)
            assert said["Color"] == color
            found[said["Node"]] = color
            if len(found) == storlet_world.COUNT:
                break
        return found

    def reader(self) -> Callable[[], str]:
        """Return a client that reads through the storlet, and says in which colour."""
        session = self.world.session(swift.MANAGER)

        def read() -> str:
            answer = session.get(f"{self.url}/hold/rope", headers=storlet_sources.RUN)
            color = storlet_sources.color_of(answer, DATA)
            assert color, f"{answer.status_code}: {answer.content[:200]!r}"
            return color

        return read

    def asker(self) -> Callable[[], str]:
        """Return a client that asks which image storlets run in, by its colour."""
        session = self.world.session(swift.MANAGER)

        def ask() -> str:
            answer = session.get(f"{self.url}/hold/rope", headers=storlet_sources.TELL)
            assert answer.status_code == 200, f"{answer.status_code}: {answer.content[:200]!r}"
            return answer.text

        return ask

    def writer(self) -> Callable[[], str]:
        """Return a client that writes through the storlet, and says in which colour."""
        session, name = self.world.session(swift.MANAGER), f"sail-{threading.get_ident()}"

        def write() -> str:
            url = f"{self.url}/hold/{name}"
            answer = session.put(url, data=DATA, headers=storlet_sources.RUN)
            assert answer.status_code == 201, f"{answer.status_code}: {answer.content[:200]!r}"
            stored = session.get(url)
            color = storlet_sources.color_of(stored, DATA)
            assert color, f"{stored.status_code}: {stored.content[:200]!r}"
            return color

        return write


@contextlib.contextmanager
def running(world: storlet_world.World) -> Iterator[Tenant]:
    """Have the account; in the end its manager's engine has none of its images."""
    directory = world.directory / "tenant"
    directory.mkdir()
    try:
        yield Tenant(world, directory)
    finally:
        with host.engine() as client:
            # By the names alone: others' images come and go.
            for image in client.api.images():
                for tag in image["RepoTags"] or ():
                    if tag.startswith(_TAG):
                        client.images.remove(tag)
