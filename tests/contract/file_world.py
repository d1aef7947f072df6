# SPDX-License-Identifier: Apache-2.0
"""Sparse files as volumes, for the suite of attachers."""

import os
import pathlib

from container_stack.host import attach, attach_file
from container_stack.testing import attach_world


class FileWorld(attach_world.World):
    """Sparse files where the simulator keeps them."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        (directory / "volumes").mkdir()
        (directory / "targets").mkdir()

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        options = attach.Options(
            initiator=initiator, timeout=timeout, directory=str(self.directory)
        )
        return attach_file.FileAttacher.open(options)

    def make(self, name: str, size: int, *, chap: attach.Chap | None = None) -> attach.Target:
        file = self.directory / "volumes" / f"{name}.img"
        file.touch()
        os.truncate(file, size)
        target = attach.Target(f"iqn.2026-11.test:{name}", ("127.0.0.1:3260",), chap=chap)
        self.link(target.iqn, f"../../volumes/{name}.img")
        return target

    def link(self, iqn: str, where: str) -> None:
        link = self.directory / "targets" / iqn.replace(":", "_").replace("/", "_") / "lun-0"
        link.parent.mkdir()
        link.symlink_to(where)

    def grow(self, target: attach.Target, size: int) -> None:
        os.truncate(self.directory / "volumes" / f"{target.iqn.rpartition(':')[2]}.img", size)

    def missing(self) -> attach.Target:
        return attach.Target("iqn.2026-11.test:none", ("127.0.0.1:3260",))
