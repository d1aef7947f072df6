# SPDX-License-Identifier: Apache-2.0
"""Files as block devices. Which file is where is read from sysfs: no process, no privilege."""

import contextlib
import glob
import os
import time

from container_stack import exceptions
from container_stack.rootwrap import commands, executor

_BACKING = "/sys/block/loop*/loop/backing_file"
#: Seconds to wait for one who looks into a new device, such as udev.
_PATIENCE = 3.0
#: What the kernel adds to the name of a file that was removed while it was attached.
_GONE = " (deleted)"


class LoopDevices:
    """Attaches files below ``<state_dir>/volumes`` to loop devices.

    For each file one caller at a time.
    """

    def __init__(self, runner: executor.Executor) -> None:
        self._executor = runner

    def find(self, path: str) -> str | None:
        """Return the device that a file is attached to, or None.

        A file that somebody removed while it was attached is whole as long as its device is there.
        """
        attached, real = _attached(), os.path.realpath(path)
        removed = None if os.path.exists(real) else attached.get(real + _GONE)
        return attached.get(real, removed)

    def attach(self, path: str) -> str:
        """Attach a file, unless it is, and return its device."""
        return self.find(path) or self._executor.run(commands.loop.ATTACH, file=path).strip()

    def resize(self, device: str) -> None:
        """Let a device have the size that its file has now, also while it is in use."""
        self._executor.run(commands.loop.RESIZE, device=device)

    def detach(self, path: str) -> None:
        """Detach a file; idempotent.

        :raises Busy: the device is open; it goes when whoever holds it lets go.
        """
        device = self.find(path)
        if device is None:
            return
        with contextlib.suppress(exceptions.CommandFailed):  # gone meanwhile, or still there
            self._executor.run(commands.loop.DETACH, device=device)
        end = time.monotonic() + _PATIENCE
        while self.find(path):
            if time.monotonic() > end:
                raise exceptions.Busy(f"{device} of {path} is in use; `lsof {device}` shows whose.")
            time.sleep(0.02)

    def detach_deleted(self, directory: str) -> None:
        """Detach the files of a directory that are no more: attached just as they were removed."""
        inside = os.path.realpath(directory) + "/"
        for path, device in _attached().items():
            if path.startswith(inside) and path.endswith(_GONE):
                with contextlib.suppress(exceptions.CommandFailed):
                    self._executor.run(commands.loop.DETACH, device=device)


def _attached() -> dict[str, str]:
    found = {}
    for name in glob.glob(_BACKING):
        with contextlib.suppress(OSError), open(name, encoding="utf-8") as file:
            found[file.read().rstrip("\n")] = "/dev/" + name.split("/")[3]
    return found
