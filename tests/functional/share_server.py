# SPDX-License-Identifier: Apache-2.0
"""A share server as the core makes them, on real file systems, and the host below it."""

import contextlib
import functools
import hashlib
import os
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from container_stack import exceptions
from container_stack.host import containers, images
from container_stack.shares import cifs, container, image

NET4, NET6 = "10.251.77", "fd00:251:77:"


@functools.cache
def reference() -> str:
    """Return a name that changes with the image's sources."""
    sources = Path(image.__file__).with_suffix("")
    files = [Path(image.__file__), *sorted(sources.iterdir())]
    return "cstest-samba:" + hashlib.sha256(b"".join(map(Path.read_bytes, files))).hexdigest()[:12]


@pytest.fixture(scope="session")
def samba_image(engine: containers.Engine) -> Iterator[str]:
    """The image that this tree makes, or the one that SAMBA_IMAGE names."""
    if given := os.environ.get("SAMBA_IMAGE"):
        yield given
        return
    engine_images = images.Images(engine)
    if engine_images.find(reference()) is not None:
        yield reference()
        return
    image.build(engine_images, reference=reference())
    yield reference()
    # Another run on this machine may be using it.
    with contextlib.suppress(exceptions.Busy):
        engine_images.remove(reference())


@pytest.fixture(scope="module")
def network(engine: containers.Engine, test_labels: Mapping[str, str]) -> Iterator[str]:
    """A network in which the host has two addresses, .1 and .2."""
    name = f"cstest-{uuid.uuid4().hex[:8]}"
    subnets = [containers.Subnet(f"{NET4}.0/24"), containers.Subnet(f"{NET6}:/64")]
    engine.create_network(name, subnets, labels=test_labels)
    bridge = engine.inspect_network(name).bridge
    _run("ip", "address", "add", f"{NET4}.2/24", "dev", bridge)
    yield name
    engine.remove_network(name)


class ShareServer:
    """One share server and its directory on the host."""

    def __init__(self, engine: containers.Engine, spec: containers.ContainerSpec, directory: Path):
        self.engine = engine
        self.spec = spec
        self.directory = directory
        self.id = ""
        self._mounted: list[str] = []

    @property
    def address(self) -> str:
        assert self.spec.address4
        return self.spec.address4

    @property
    def samba(self) -> cifs.Samba:
        return cifs.Samba(self.engine, self.id)

    def start(self) -> None:
        self.id = self.engine.run(self.spec)
        self.samba.wait_ready(20)
        self._wait_for_ipv6()

    def _wait_for_ipv6(self) -> None:
        """The host's new address is none until nobody on the bridge has claimed it."""
        deadline = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection((self.spec.address6, 445), timeout=1).close()
                return
            assert time.monotonic() < deadline, f"{self.spec.address6} is out of reach"
            time.sleep(0.1)

    def run(self, *argv: str, stdin: str = "") -> containers.ExecResult:
        return self.engine.exec(self.id, argv, stdin=stdin.encode())

    def share_server(self, *words: str, stdin: str = "") -> containers.ExecResult:
        return self.run(cifs.SHARE_SERVER, *words, stdin=stdin)

    def mount(self, share: str) -> Path:
        """Give a share a file system of its own; return its data directory."""
        with self._backing(share).open("wb") as file:
            file.truncate(320 * 1024**2)
        _run("mkfs.xfs", "-q", str(self._backing(share)))
        (self.directory / share).mkdir()
        self.mount_again(share)
        return self.directory / share / "data"

    def mount_again(self, share: str) -> None:
        options = "loop,nosuid,nodev,noexec"
        _run("mount", "-o", options, str(self._backing(share)), str(self.directory / share))
        self._mounted.append(share)

    def _backing(self, share: str) -> Path:
        # Beside the tree: a copy of the share's mount in somebody's namespace may keep it open.
        tree = self.directory.parent
        return tree.with_name(f"{tree.name}-{self.directory.name}-{share}.img")

    def unmount(self, share: str) -> None:
        """Unmount it once, with no second try."""
        _run("umount", str(self.directory / share))
        self._mounted.remove(share)

    def close(self) -> None:
        self.engine.remove(self.id or self.spec.name)
        for share in list(self._mounted):
            self.unmount(share)
        self.engine.remove_volume(self.spec.name)


@pytest.fixture(scope="module")
def make_server(
    engine: containers.Engine,
    network: str,
    samba_image: str,
    test_labels: Mapping[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[..., ShareServer]]:
    """A function that starts a share server; keywords say what is not as usual."""
    tree = tmp_path_factory.mktemp("tree")
    _run("mount", "--bind", str(tree), str(tree))
    _run("mount", "--make-rshared", str(tree))
    with contextlib.ExitStack() as undo:
        undo.callback(_run, "umount", str(tree))
        made: list[ShareServer] = []

        def make(**values: Any) -> ShareServer:
            name = f"cstest-{uuid.uuid4().hex[:8]}"
            directory = tree / name
            directory.mkdir()
            spec = container.spec(
                container.Settings(image=samba_image, **values),
                name=name,
                labels=test_labels,
                shares_directory=str(directory),
                state_volume=name,
            )
            made.append(ShareServer(engine, on_network(spec, network, 10 + len(made)), directory))
            undo.callback(made[-1].close)
            engine.create_volume(name, test_labels)
            made[-1].start()
            return made[-1]

        yield make


def on_network(
    spec: containers.ContainerSpec, network: str, number: int
) -> containers.ContainerSpec:
    """Return the spec with addresses that end in this number."""
    values = {field: getattr(spec, field) for field in type(spec).__dataclass_fields__}
    addresses = {"address4": f"{NET4}.{number}", "address6": f"{NET6}:{number}"}
    return containers.ContainerSpec(**{**values, "network": network, **addresses})


@pytest.fixture(scope="module")
def server(make_server: Callable[..., ShareServer]) -> ShareServer:
    return make_server()


@pytest.fixture
def share(server: ShareServer) -> Iterator[str]:
    """The name of a share with a volume and no rules yet."""
    name = f"share-{uuid.uuid4().hex[:8]}"
    server.mount(name)
    yield name
    server.samba.remove_share(name)
    server.unmount(name)


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True)
