# SPDX-License-Identifier: Apache-2.0
"""Targets of LIO, the kernel's own, made by its files in configfs."""

import contextlib
import itertools
import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from contract import portal

from container_stack.host import attach
from container_stack.testing import attach_world

CONFIGFS = Path("/sys/kernel/config")
STORES, TARGETS = CONFIGFS / "target/core/iblock_0", CONFIGFS / "target/iscsi"
MODULES = ("configfs", "target_core_mod", "target_core_iblock", "iscsi_target_mod")
PORT = 14260
_numbers = itertools.count(1)


def run(*argv: str | Path) -> str:
    """Run a command and return its output."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout.strip()


class LioWorld(attach_world.World):
    """Loop devices as LUN 0 of a target each.

    :param portals: how many stand before the real one.
    """

    capabilities = frozenset({attach_world.CHAP, attach_world.MUTUAL_CHAP})

    def __init__(self, directory: Path, portals: int) -> None:
        self._directory = directory
        self._undo = contextlib.ExitStack()
        self._loops: dict[str, str] = {}
        run("modprobe", "-a", *MODULES)
        if not (CONFIGFS / "target").exists():
            run("mount", "-t", "configfs", "configfs", CONFIGFS)
        TARGETS.mkdir(parents=True, exist_ok=True)
        self.portals = [portal.Portal(("127.0.0.1", PORT)) for _ in range(portals)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for each in self.portals:
            each.lose()
        self._undo.close()

    def make(self, name: str, size: int, *, chap: attach.Chap | None = None) -> attach.Target:
        iqn = f"iqn.2026-11.test:cstest-{name}"
        self._export(iqn)
        self._number(iqn, 0, self._store(iqn, name, size))
        if chap is not None:
            self._ask(iqn, chap)
        return attach.Target(iqn, tuple(each.address for each in self.portals), chap=chap)

    def add(self, name: str, size: int, target: attach.Target, number: int) -> None:
        """Give a target another volume."""
        self._number(target.iqn, number, self._store(name, name, size))

    def grow(self, target: attach.Target, size: int) -> None:
        os.truncate(self._directory / target.iqn.rpartition("-")[2], size)
        run("losetup", "--set-capacity", self._loops[target.iqn])

    def missing(self) -> attach.Target:
        other = self.make("other", attach_world.MIB)
        return attach.Target("iqn.2026-11.test:cstest-none", other.portals)

    def admit(self, target: attach.Target, initiators: tuple[str, ...]) -> None:
        group = TARGETS / target.iqn / "tpgt_1"
        for attribute in ("generate_node_acls", "cache_dynamic_acls"):
            (group / "attrib" / attribute).write_text("0")
        for each in initiators:
            link = self._directories(group / "acls" / each, "lun_0") / "store"
            link.symlink_to(group / "lun" / "lun_0")
            self._undo.callback(link.unlink)

    def _store(self, owner: str, name: str, size: int) -> Path:
        file = self._directory / name
        file.touch()
        os.truncate(file, size)
        self._loops[owner] = loop = run("losetup", "--find", "--show", file)
        self._undo.callback(run, "losetup", "--detach", loop)
        store = self._directories(STORES / name)
        (store / "control").write_text(f"udev_path={loop}")
        (store / "udev_path").write_text(loop)
        (store / "enable").write_text("1")
        # By it multipathd takes two devices for one.
        (store / "wwn" / "vpd_unit_serial").write_text(f"cstest-{os.getpid()}-{next(_numbers)}")
        return store

    def _number(self, iqn: str, number: int, store: Path) -> None:
        link = self._directories(TARGETS / iqn / "tpgt_1" / "lun" / f"lun_{number}") / "store"
        link.symlink_to(store)
        self._undo.callback(link.unlink)

    def _export(self, iqn: str) -> None:
        group = self._directories(TARGETS / iqn, "tpgt_1")
        self._directories(group / "np" / f"127.0.0.1:{PORT}")
        for attribute, value in (
            ("generate_node_acls", "1"),
            ("cache_dynamic_acls", "1"),
            ("demo_mode_write_protect", "0"),
            ("authentication", "0"),
        ):
            (group / "attrib" / attribute).write_text(value)
        (group / "enable").write_text("1")
        self._undo.callback((group / "enable").write_text, "0")

    def _ask(self, iqn: str, chap: attach.Chap) -> None:
        group = TARGETS / iqn / "tpgt_1"
        (group / "attrib" / "authentication").write_text("1")
        (group / "auth" / "userid").write_text(chap.user)
        (group / "auth" / "password").write_text(chap.secret)
        if chap.mutual_secret:
            (group / "auth" / "userid_mutual").write_text(chap.mutual_user)
            (group / "auth" / "password_mutual").write_text(chap.mutual_secret)

    def _directories(self, path: Path, *below: str) -> Path:
        """Make directories, which LIO fills by itself and which go in the end."""
        path.mkdir(parents=True)
        self._undo.callback(path.rmdir)
        return self._directories(path / below[0], *below[1:]) if below else path
