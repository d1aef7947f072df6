# SPDX-License-Identifier: Apache-2.0
"""A Swift node of a test's own: an engine, directories, images, and clients that run storlets."""

import contextlib
import dataclasses
import hashlib
import io
import json
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from container_stack.host import containers, images
from container_stack.storlets import gateway, model
from container_stack.storlets.deployment import versions
from container_stack.storlets.node import engine_node
from container_stack.testing import node_contract

from . import dockerd, storlet_client, storlet_host

DEFAULT = "cstest-storlet-default"
MARK = "cstest-image"
LIMITS = {
    "container_mem_limit": str(256 * 1024**2),
    "container_pids_limit": "64",
    "container_cpu_period": "100000",
    "container_cpu_quota": "100000",
}

#: What makes an image unusable, by files.
SITE = "etc/python3.11/sitecustomize.py"
NO_START = {"json.py": "raise SystemExit('not the json you know')"}
SILENT = {SITE: "import sys, time\nif 'storlets.agent' in str(sys.orig_argv): time.sleep(3600)"}
GARBAGE = {
    SITE: """
import sys
if "storlets.agent.daemon" in sys.orig_argv:
    import storlets.agent.daemon.files as files
    files.StorletOutputFile.write = lambda self, data: self.obj_file.write(data[::-1])
"""
}
FORGETFUL = {
    SITE: """
import sys
if "storlets.agent.daemon" in sys.orig_argv:
    import storlets.agent.daemon.files as files
    files.StorletInputFile.get_metadata = lambda self: {}
"""
}


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A layer of an image."""

    diff_id: str
    size: int


class TestImage:
    """An image of one layer on the base, as :class:`versions.Image`."""

    __test__ = False

    def __init__(self, files: Mapping[str, str]) -> None:
        with tarfile.open(storlet_host.base_archive()) as base:
            [entry] = json.loads(_member(base, "manifest.json"))
            config = json.loads(_member(base, entry["Config"]))
            self._base_name = entry["Layers"][0]
            base_layer = Layer(
                config["rootfs"]["diff_ids"][0], base.getmember(self._base_name).size
            )
        self._layer = _tar({name: text.encode() for name, text in files.items()})
        layer = Layer(_digest(self._layer), len(self._layer))
        self.layers = (base_layer, layer)
        config["rootfs"]["diff_ids"].append(layer.diff_id)
        config["history"].append({"created_by": "cstest"})
        self._config = json.dumps(config).encode()
        self.image_id = _digest(self._config)

    def stream(self, skip: int = 0) -> Iterator[bytes]:
        """Yield the archive without its first ``skip`` layers."""
        config = self.image_id.removeprefix("sha256:")
        manifest = [
            {"Config": f"{config}.json", "Layers": ["0/layer.tar", "1/layer.tar"], "RepoTags": None}
        ]
        yield from _entry("manifest.json", json.dumps(manifest).encode())
        yield from _entry(f"{config}.json", self._config)
        if skip < 1:
            with tarfile.open(storlet_host.base_archive()) as base:
                source = base.extractfile(self._base_name)
                assert source is not None
                size = self.layers[0].size
                yield _header("0/layer.tar", size)
                while chunk := source.read(1024**2):
                    yield chunk
                yield bytes(-size % 512)
        if skip < 2:
            yield from _entry("1/layer.tar", self._layer)
        yield bytes(1024)


class NodeWorld:
    """A node with an engine that is there; as :class:`node_contract.World`."""

    def __init__(self, url: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.engine = containers.Engine(url)
        self.images = images.Images(self.engine)
        # Paths of sockets have 108 bytes, and what is longer is cut off.
        self.root = Path(tempfile.mkdtemp(prefix="cstest-", dir="/tmp"))
        self.options = {
            "host_root": str(self.root),
            "default_container_image_name": DEFAULT,
            **LIMITS,
            **(options or {}),
        }
        self.gateway = gateway.Gateway.of(self.options)
        for path in (self.gateway.pipes, self.gateway.storlets):
            Path(path).mkdir(parents=True)
        self.account, self.other = (model.Account(f"AUTH_{uuid.uuid4().hex}") for _each in range(2))
        self.node = self.again()
        self._known: dict[str, str] = {}

    def again(self, **options: Any) -> engine_node.EngineNode:
        """Return the node as a process sees it that has just started."""
        base = self.images.find(storlet_host.BASE)
        assert base is not None
        engine = containers.Engine(self.url)
        return engine_node.EngineNode("one", engine, self.gateway, base=base.id, **options)

    def image(self, name: str, files: Mapping[str, str] | None = None) -> versions.Image:
        """Return an image that works."""
        made = TestImage({MARK: name, **(files or {})})
        self._known[name] = made.image_id
        return made

    def broken(self) -> versions.Image:
        """Return an image that doesn't pass the probe."""
        return self.image("broken", GARBAGE)

    def order(self, account: model.Account | None = None, **more: Any) -> dict[str, Any]:
        """Return what a client needs to know."""
        scope = (account or self.account).scope
        return {"conf": self.options, "scope": scope, **more}

    def serve(self, account: model.Account) -> str:
        """Let a client run a storlet, and return the ID of the image that it ran in."""
        answer = storlet_client.ask(self.url, self.order(account))
        assert answer["error"] is None, answer["error"]
        return self._known[answer["image"]]

    def holds(self, image_id: str) -> bool:
        """Return whether the node has that image at all."""
        return self.images.find(image_id) is not None

    def load_default(self) -> None:
        """Bring the default image."""
        default = self.image("default")
        self.images.load(default.stream(1))
        self.images.tag(default.image_id, DEFAULT)

    def close(self) -> None:
        """Remove what was made; nothing else may be there."""
        left = [each.name for each in self.engine.list() if "container-stack" in each.name]
        beside = [path.name for path in Path(self.gateway.pipes).glob(".*")]
        for each in self.engine.list({"managed_by": "storlets"}):
            self.engine.remove(each.id)
        keep = self.images.tagged(storlet_host.BASE, f"{DEFAULT}:latest").values()
        for image in list(self.images.all()):
            if image.id not in keep:
                for name in image.tags or (image.id,):
                    self.images.remove(name)
        shutil.rmtree(self.root)
        assert not left
        assert not beside


@contextlib.contextmanager
def running(directory: Path, *options: str) -> Iterator[dockerd.Dockerd]:
    """Run an engine that has the base image, on a host that storlets can run on."""
    daemon = dockerd.Dockerd(directory, options)
    with storlet_host.prepared():
        daemon.start()
        try:
            storlet_host.load(containers.Engine(daemon.url))
            yield daemon
        finally:
            daemon.stop()


def ready(world: "NodeWorld", *names: str) -> list[str]:
    """Stage images and return their IDs."""
    made = [world.image(name) for name in names]
    for image in made:
        node_contract.stage(world, image)
    return [image.image_id for image in made]


@contextlib.contextmanager
def world(url: str, **options: str) -> Iterator[NodeWorld]:
    """Lend a node on an engine that has the base image."""
    made = NodeWorld(url, options)
    try:
        made.load_default()
        yield made
    finally:
        made.close()


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    assert file is not None
    return file.read()


def _tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o644
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size = size
    return member.tobuf()


def _entry(name: str, content: bytes) -> Iterator[bytes]:
    yield _header(name, len(content)) + content + bytes(-len(content) % 512)


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
