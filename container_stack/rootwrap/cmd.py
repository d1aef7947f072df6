# SPDX-License-Identifier: Apache-2.0
"""Console scripts that sudo starts: rootwrap, and its daemon.

The daemon is oslo.rootwrap's, with three things added that it lacks:

- its root logger has a handler, so that a refused command is an answer, not a crash (standard
  error is closed, and logging to it would raise);
- it goes when its client goes, kill -9 included, after the command under way has ended: it
  watches its standard input, a pipe held by the client;
- a byte on that pipe kills the command under way: how a deadline is kept by a client that has no
  right to signal root's processes.
"""

import _thread
import contextlib
import logging
import os
import signal
import sys
import time

from oslo_rootwrap import cmd

#: Seconds in which killed commands must be gone before the daemon goes without them.
GRACE = 5.0


def rootwrap() -> None:
    """Run one command through the filters: ``container-stack-rootwrap CONFIG COMMAND...``."""
    cmd.main()


def daemon() -> None:
    """Serve commands through the filters: ``container-stack-rootwrap-daemon CONFIG``."""
    logging.getLogger().addHandler(logging.NullHandler())
    os.environ["LC_ALL"] = "C"
    # oslo.rootwrap closes standard input; the copy stays.
    leash = os.dup(sys.stdin.fileno())
    os.set_inheritable(leash, False)
    # Not a threading.Thread: oslo.rootwrap joins those before it goes, and this one only reads.
    _thread.start_new_thread(_watch, (leash,))
    cmd.daemon()


def _watch(leash: int) -> None:
    word = b""
    with contextlib.suppress(OSError):
        word = os.read(leash, 1)
    if word:
        _kill_children()
    os.kill(os.getpid(), signal.SIGINT)


def _kill_children() -> None:
    end = time.monotonic() + GRACE
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > end:
            return
        time.sleep(0.01)


def _children() -> list[int]:
    """Return the running children of this process (not those that only wait to be reaped)."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8") as file:
            state, parent = file.read().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.append(int(name))
    return found


if __name__ == "__main__":
    daemon()
