# SPDX-License-Identifier: Apache-2.0
"""Targets of a real tgtd of the test's own, on the loopback interface."""

import dataclasses
import os
import pathlib
import time
from types import TracebackType
from typing import Self

from container_stack.host import attach, attach_libiscsi
from container_stack.testing import attach_world
from container_stack.testing.edf import tgt, tgt_control, tgtd
from container_stack.testing.edf.tgt_control import Mode, Operation

from . import portal

_PLACEHOLDER_TID, _LUN = 1, 1


def _open(*, initiator: str, timeout: float) -> attach.Attacher:
    options = attach.Options(initiator=initiator, timeout=timeout)
    return attach_libiscsi.LibiscsiAttacher.open(options)


class TgtWorld(attach_world.World):
    """Sparse files as targets of tgtd, at two portals of its own."""

    capabilities = frozenset(
        {
            attach_world.ACCESS,
            attach_world.CHAP,
            attach_world.MUTUAL_CHAP,
            attach_world.PORTALS,
        }
    )

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self._targets = tgt.Targets(directory)
        self._targets.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._targets.stop()

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        return _open(initiator=initiator, timeout=timeout)

    def make(self, name: str, size: int, *, chap: attach.Chap | None = None) -> attach.Target:
        target = self._target(name, chap)
        _resize(self._file(target), size)
        self._targets.export(target.iqn, self._file(target), initiators=None, chap=chap)
        return target

    def grow(self, target: attach.Target, size: int) -> None:
        _resize(self._file(target), size)
        self._targets.grew(target.iqn)

    def missing(self) -> attach.Target:
        return self._target("none", None)

    def admit(self, target: attach.Target, initiators: tuple[str, ...]) -> None:
        self._targets.export(target.iqn, self._file(target), initiators=initiators)

    def lose_portal(self, target: attach.Target, number: int) -> None:
        self._targets.lose_portal(number)

    def regain_portal(self, target: attach.Target, number: int) -> None:
        self._targets.restore_portal(number)

    def _target(self, name: str, chap: attach.Chap | None) -> attach.Target:
        return attach.Target(f"iqn.2026-11.test:cstest-{name}", self._targets.portals, chap=chap)

    def _file(self, target: attach.Target) -> pathlib.Path:
        return self._directory / f"{target.iqn.replace(':', '_')}.img"


class Meddled:
    """A tgtd behind two proxies, whose targets and answers a test may change as it likes.

    :param host: address that the proxies listen at.
    """

    def __init__(self, directory: pathlib.Path, host: str = "127.0.0.1") -> None:
        self._directory = directory
        self._server = tgtd.Server(directory, ["127.0.0.1"])
        self._server.start()
        self.order = self._server.control.order
        # tgtd hangs up on everybody while it has no target at all.
        self.order(Mode.TARGET, Operation.NEW, "targetname=nobody", tid=_PLACEHOLDER_TID)
        real = self.order(Mode.PORTAL, Operation.SHOW).split()[1].partition(",")[0]
        self.real_portal = real
        self.portals = [portal.Portal(tgtd.address(real), host) for _ in range(2)]
        self._tids: dict[str, int] = {}

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
        self._server.stop()

    def attacher(self, *, timeout: float = 30.0) -> attach.Attacher:
        """Return a new attacher."""
        return _open(initiator="", timeout=timeout)

    def make(self, name: str, size: int) -> attach.Target:
        """Make a target whose only volume has ``size`` bytes."""
        iqn = f"iqn.2026-11.test:cstest-{name}"
        tid = self._tids[iqn] = len(self._tids) + _PLACEHOLDER_TID + 1
        self.order(Mode.TARGET, Operation.NEW, f"targetname={iqn}", tid=tid)
        self.order(Mode.TARGET, Operation.BIND, "initiator-address=ALL", tid=tid)
        target = attach.Target(iqn, tuple(each.address for each in self.portals))
        self.add(target, _LUN, size)
        return target

    def add(self, target: attach.Target, lun: int, size: int) -> None:
        """Give a target another volume."""
        file = self._directory / f"{self._tids[target.iqn]}-{lun}.img"
        _resize(file, size)
        store = f"path={file},bstype=rdwr"
        self.order(Mode.UNIT, Operation.NEW, store, tid=self._tids[target.iqn], lun=lun)

    def remove(self, target: attach.Target) -> None:
        """Take a target's volume away."""
        end = time.monotonic() + 20
        while True:
            try:
                tid = self._tids[target.iqn]
                self.order(Mode.UNIT, Operation.DELETE, tid=tid, lun=_LUN)
            except tgt_control.Refusal as exc:
                # Tried again while a command is under way.
                if exc.code != tgt_control.UNIT_ACTIVE or time.monotonic() > end:
                    raise
            else:
                return

    def set(self, target: attach.Target, parameters: str) -> None:
        """Change a volume, such as ``readonly=1``."""
        text = f"targetOps {parameters},"
        self.order(Mode.UNIT, Operation.UPDATE, text, tid=self._tids[target.iqn], lun=_LUN)

    def direct(self, target: attach.Target) -> attach.Target:
        """Return a target without the proxies."""
        return dataclasses.replace(target, portals=(self.real_portal,))

    def lose_portal(self, number: int) -> None:
        """Cut a portal's connections, and refuse new ones."""
        self.portals[number].lose()

    def regain_portal(self, number: int) -> None:
        """Let a lost portal answer again."""
        self.portals[number].regain()

    def meddle(self, meddler: portal.Meddler | None) -> None:
        """Change what the target says, whichever the portal."""
        for each in self.portals:
            each.meddle = meddler

    def sessions(self) -> int:
        """Return how many initiators are logged in."""
        shown = [
            self.order(Mode.CONNECTION, Operation.SHOW, tid=tid) for tid in self._tids.values()
        ]
        return sum(each.count("Session:") for each in shown)


def _resize(file: pathlib.Path, size: int) -> None:
    file.touch()
    os.truncate(file, size)
