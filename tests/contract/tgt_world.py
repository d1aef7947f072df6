# SPDX-License-Identifier: Apache-2.0
"""Targets of a real tgtd of the test's own, on the loopback interface."""

import dataclasses
import os
import pathlib
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

from container_stack.host import attach, attach_libiscsi
from container_stack.testing import attach_world

from . import portal


class TgtWorld(attach_world.World):
    """Sparse files as targets of tgtd; two portals stand before it.

    :param host: address that the portals listen at.
    """

    capabilities = frozenset(
        {
            attach_world.ACCESS,
            attach_world.CHAP,
            attach_world.MUTUAL_CHAP,
            attach_world.PORTALS,
        }
    )

    def __init__(self, directory: pathlib.Path, host: str = "127.0.0.1") -> None:
        self._directory = directory
        self._environment = {**os.environ, "TGT_IPC_SOCKET": str(directory / "tgtd")}
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self._tgtd = subprocess.Popen(
            ["tgtd", "-f", "-C", "0", "--iscsi", f"portal=127.0.0.1:{self.port}"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_for_tgtd()
        self.portals = [portal.Portal(("127.0.0.1", self.port), host) for _ in range(2)]
        self._numbers: dict[str, int] = {}

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
        self._tgtd.kill()
        self._tgtd.wait(10)

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        options = attach.Options(initiator=initiator, timeout=timeout)
        return attach_libiscsi.LibiscsiAttacher.open(options)

    def make(self, name: str, size: int, *, chap: attach.Chap | None = None) -> attach.Target:
        number = str(len(self._numbers) + 1)
        iqn = f"iqn.2026-11.test:cstest-{name}"
        self._numbers[iqn] = int(number)
        self.tgtadm("target", "new", "--tid", number, "-T", iqn)
        self._resize(iqn, size)
        self.tgtadm("target", "bind", "--tid", number, "-I", "ALL")
        if chap is not None:
            self._ask(number, chap.user, chap.secret)
            if chap.mutual_user:
                self._ask(number, chap.mutual_user, chap.mutual_secret, "--outgoing")
        return attach.Target(iqn, tuple(each.address for each in self.portals), chap=chap)

    def grow(self, target: attach.Target, size: int) -> None:
        # tgt can't do it in place, nor while a command is under way.
        delete = ("logicalunit", "delete", "--tid", self._tid(target), "--lun", "1")
        end = time.monotonic() + 20
        while "still active" in self.tgtadm(*delete, may_fail=time.monotonic() < end):
            time.sleep(0.002)
        self._resize(target.iqn, size)

    def missing(self) -> attach.Target:
        if not self._numbers:  # tgtd hangs up when it has no target at all
            self.make("other", attach_world.MIB)
        return attach.Target(
            "iqn.2026-11.test:cstest-none", tuple(each.address for each in self.portals)
        )

    def admit(self, target: attach.Target, initiators: tuple[str, ...]) -> None:
        bound = self.tgtadm("target", "show").partition(f": {target.iqn}\n")[2]
        for line in bound.partition("ACL information:\n")[2].splitlines():
            if not line.startswith("        "):
                break
            kind = "-I" if line.strip() == "ALL" else "-Q"
            self.tgtadm("target", "unbind", "--tid", self._tid(target), kind, line.strip())
        for each in initiators:
            self.tgtadm("target", "bind", "--tid", self._tid(target), "-Q", each)

    def lose_portal(self, target: attach.Target, number: int) -> None:
        self.portals[number].lose()

    def regain_portal(self, target: attach.Target, number: int) -> None:
        self.portals[number].regain()

    def direct(self, target: attach.Target) -> attach.Target:
        """Return a target without what stands before it."""
        return dataclasses.replace(target, portals=(f"127.0.0.1:{self.port}",))

    def set(self, target: attach.Target, parameters: str) -> None:
        """Change a volume, such as ``online=0``."""
        self.tgtadm(
            "logicalunit", "update", "--tid", self._tid(target), "--lun", "1", "-P", parameters
        )

    def sessions(self) -> int:
        """Return how many initiators are logged in."""
        return self.tgtadm("target", "show").count("I_T nexus:")

    def tgtadm(self, mode: str, operation: str, *arguments: str, may_fail: bool = False) -> str:
        done = subprocess.run(
            ["tgtadm", "-C", "0", "--lld", "iscsi", "-m", mode, "-o", operation, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0 or may_fail, f"tgtadm {mode} {operation}: {done.stderr}"
        return done.stdout + done.stderr

    def _ask(self, number: str, user: str, secret: str, *outgoing: str) -> None:
        self.tgtadm("account", "new", "--user", user, "--password", secret)
        self.tgtadm("account", "bind", "--tid", number, "--user", user, *outgoing)

    def _resize(self, iqn: str, size: int) -> None:
        number = self._numbers[iqn]
        file = self._directory / f"{number}.img"
        file.touch()
        os.truncate(file, size)
        self.tgtadm("logicalunit", "new", "--tid", str(number), "--lun", "1", "-b", str(file))

    def _tid(self, target: attach.Target) -> str:
        return str(self._numbers[target.iqn])

    def _wait_for_tgtd(self) -> None:
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                self.tgtadm("target", "show")
            except (OSError, AssertionError):
                assert self._tgtd.poll() is None
                time.sleep(0.05)
            else:
                return
        raise AssertionError("tgtd doesn't start")
