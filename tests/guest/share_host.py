# SPDX-License-Identifier: Apache-2.0
"""A share service on a volume group, with an engine of its own and the kernel's clients."""

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

from functional import dockerd

from container_stack.host import containers, images
from container_stack.rootwrap import executor
from container_stack.shares import assembly, cifs, image, model, service
from container_stack.testing import privilege

from . import share_server, volume_groups

#: The first three bytes of the server's network.
NET = "10.231.80"
IMAGE = "cstest-samba"
ALICE, BOB = cifs.Rule("user", "alice"), cifs.Rule("user", "bob")


class ShareHost:
    """Where that service works.

    :param directory: all that it writes.
    :param group: its volume group; thin shares come of the pool ``pool``.
    """

    def __init__(
        self, directory: Path, engine: dockerd.Dockerd, group: str, kind: str, *, thin: bool
    ) -> None:
        self.engine = engine
        self.run = privilege.make_executor(directory / "state")
        self._clients = directory / "clients"
        self._clients.mkdir(exist_ok=True)
        self.filesystem = kind
        self._settings = assembly.Settings(
            owner="cstest",
            state_dir=str(directory / "state"),
            docker_url=engine.url,
            image=IMAGE,
            storage="lvm",
            filesystem=kind,
            volume_group=group,
            thin_pool="pool" if thin else None,
        )

    def open(self, run: executor.Executor | None = None) -> service.ShareService:
        """Return the service as after a start of its process, before recovery."""
        engine = containers.Engine(self.engine.url)
        return assembly.assemble(self._settings, engine, run or self.run)

    def spec(self) -> model.ServerSpec:
        """Return its share server."""
        subnet = model.Subnet("cstest-guest", f"{NET}.0/24", gateway=f"{NET}.1")
        return model.ServerSpec("server-1", subnet, f"{NET}.10")

    @contextlib.contextmanager
    def mounted(
        self, share: str, key: str, options: str = "", *, user: str = "alice"
    ) -> Iterator[Path]:
        """Mount a share, where the kernel of this host is the client.

        :raises OSError: the server refused.
        """
        point = self._clients / uuid.uuid4().hex[:8]
        point.mkdir()
        login = f"ip={NET}.10,vers=3.1.1,seal,nosharesock,actimeo=0,username={user},password={key}"
        words = ["nsenter", f"--net=/proc/{self.engine.pid}/ns/net", "mount", "-i", "-t", "cifs"]
        words += ["-o", f"{login}{options}", f"//{NET}.10/{share}", str(point)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            point.rmdir()
            raise OSError(done.stderr)
        try:
            yield point
        finally:
            if subprocess.run(["umount", point], capture_output=True, check=False).returncode:
                share_server.run("umount", "--force", "--lazy", point)
            point.rmdir()

    def volumes(self) -> set[str]:
        """Return the names of the group's logical volumes."""
        group = self._settings.volume_group or ""
        return set(volume_groups.lvm("lvs", "--noheadings", "--options=lv_name", group).split())

    def clear(self, shares: service.ShareService) -> None:
        """Take away its shares, their snapshots and servers."""
        for share in shares.list():
            for snapshot in shares.snapshots.list(share.id):
                shares.snapshots.delete(snapshot.id)
            shares.delete(share.id)
        for server in shares.servers.list():
            shares.delete_server(server.id)

    def close(self) -> None:
        """Take away all that there is of it."""
        shares = self.open()
        shares.recover()
        self.clear(shares)
        share_server.run("umount", Path(self._settings.state_dir, "mounts"))
        self.run.close()


@contextlib.contextmanager
def engine(directory: Path) -> Iterator[dockerd.Dockerd]:
    """Run an engine with the share servers' image in it, made of this machine's packages."""
    for module in ("overlay", "bridge", "veth", "cifs"):
        share_server.run("modprobe", module)
    directory.mkdir(exist_ok=True)
    made = dockerd.Dockerd(directory)
    made.start()
    try:
        client = images.Images(containers.Engine(made.url))
        if client.find(IMAGE) is None:
            load_image(client, directory)
        yield made
    finally:
        made.stop()


def load_image(client: images.Images, directory: Path) -> None:
    """Make the image of the packages that this machine has."""
    with share_server.packages(directory) as root, (directory / "image.tar").open("w+b") as file:
        image.write(file, root)
        file.seek(0)
        client.import_tar(iter(lambda: file.read(images.CHUNK), b""), IMAGE, image.CHANGES)
    os.unlink(directory / "image.tar")
