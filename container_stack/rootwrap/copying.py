# SPDX-License-Identifier: Apache-2.0
"""``container-stack-copy``: brings, as root, all that a share holds to another volume.

``container-stack-copy SOURCE TARGET SINCE`` copies between two mount points: owners, modes, times,
ACLs, extended attributes, hard links, holes, links and odd names. What is at the target alone goes.

Clients may write to the source meanwhile, and whoever has broken into their server may exchange a
directory for a link. So rsync runs where there is nothing but the two and the system's programs
(bubblewrap): whatever it follows, it stays inside.

With SINCE 0 the copy is as good as it can be while others write. Else nobody may: SINCE, in seconds
since 1970, is when copying began, and the copy is then exact. rsync believes that a file of the
same size and time of change is the same; clients can set those, so what may have changed since is
compared byte for byte: files whose inode has, and those below a directory of which that is true,
since it may have changed places with another. In the end rsync finds nothing that is different.

While it runs it holds a lock on ``TARGET.lock``, and it ends early when there is ``TARGET.stop``.
It ends with 0, or with 1 and the name of an error and its text on standard error.
"""

import contextlib
import fcntl
import os
import re
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import IO

from container_stack import exceptions

#: What rsync needs for files of anybody, devices among them; security.* and trusted.* attributes
#: ask for SYS_ADMIN.
_CAPABILITIES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "MKNOD",
    "SYS_ADMIN",
)
#: ext4 has it, and the kernel's repairs alone are in it.
_RSYNC = ("rsync", "-aHAXS", "--numeric-ids", "--whole-file", "--exclude=/lost+found")
#: rsync's codes for "some files weren't copied" and "some files vanished".
_PARTIAL, _VANISHED = 23, 24
#: Seconds by which the kernel's times of files may be behind the clock, and then some.
_SLACK = 2
_PASSES = 4
_FAILED = re.compile(r"failed: ([A-Z][^\n]{0,120})")


def main() -> None:
    """Do what the arguments say."""
    source, target, since = sys.argv[1:]
    try:
        with _alone(target):
            for path in (source, target):
                if not os.path.ismount(path):
                    raise exceptions.HostNotReady(f"nothing is mounted at {path}.")
            run = Sandbox(source, target)
            if int(since):
                _bring_up_to_date(run, source, int(since) - _SLACK)
            else:
                _bring_most(run)
    except exceptions.ContainerStackError as exc:
        sys.exit(f"{type(exc).__name__}: {exc}")


class Sandbox:
    """Runs rsync from one directory to another, which are all that it sees of this host's files."""

    def __init__(self, source: str, target: str) -> None:
        self._stop = f"{target}.stop"
        self._argv = [*_sandbox(), "--ro-bind", source, "/source", "--bind", target, "/target"]

    def rsync(
        self, *options: str, names: IO[bytes] | None = None, may: tuple[int, ...] = ()
    ) -> str:
        """Copy, and return what rsync printed.

        :param names: of files, each with a NUL behind it; None for all.
        :param may: codes that it may end with besides 0.
        :raises Busy: it was stopped.
        :raises NoSpace: the target is full.
        :raises NotSupported: something can't be copied; the text says why.
        """
        argv = [*self._argv, *_RSYNC, *options, "/source/", "/target/"]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given = names or subprocess.DEVNULL
            with subprocess.Popen(argv, stdin=given, stdout=out, stderr=err) as process:
                code = self._wait(process)
            said, wrong = (_beginning(each) for each in (out, err))
        if code and code not in may:
            raise _error(code, wrong)
        return said

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        while True:
            if os.path.lexists(self._stop):
                # What is inside has its own process ids, and ends with the first of them.
                process.kill()
                raise exceptions.Busy("copying was stopped.")
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(0.2)


def _bring_most(run: Sandbox) -> None:
    """Copy what is there while clients write; what they exchange meanwhile looks like an error."""
    try:
        run.rsync("--delete", may=(_VANISHED,))
    except exceptions.NotSupported:
        run.rsync("--delete", may=(_VANISHED,))


def _bring_up_to_date(run: Sandbox, source: str, since: int) -> None:
    run.rsync("--delete")
    with tempfile.TemporaryFile() as names:
        for name in changed(source, since):
            names.write(name + b"\0")
        names.seek(0)
        run.rsync("--checksum", "--from0", "--files-from=-", names=names)
    for _ in range(_PASSES):
        if not run.rsync("--delete", "--itemize-changes"):
            return
    raise exceptions.NotSupported("the copy is never the same as the share.")


def changed(top: str, since: int) -> Iterator[bytes]:
    """Yield the names of files that may have other contents than at a time, below a directory.

    :param since: seconds since 1970.
    """
    stack = [(b"", False)]
    while stack:
        below, all_of_it = stack.pop()
        with os.scandir(os.path.join(os.fsencode(top), below)) as entries:
            for entry in entries:
                found, name = entry.stat(follow_symlinks=False), os.path.join(below, entry.name)
                new = all_of_it or found.st_ctime >= since
                if stat.S_ISDIR(found.st_mode):
                    # What clients see as the share itself can't change places with anything.
                    stack.append((name, new and name != b"data"))
                elif stat.S_ISREG(found.st_mode) and new:
                    yield name


def _sandbox() -> list[str]:
    argv = ["bwrap", "--unshare-ipc", "--unshare-net", "--unshare-pid", "--unshare-uts"]
    argv += ["--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    for name in _CAPABILITIES:
        argv += ["--cap-add", f"CAP_{name}"]
    argv += ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "lib", "lib64"):
        if os.path.islink(f"/{name}"):
            argv += ["--symlink", f"usr/{name}", f"/{name}"]
        elif os.path.isdir(f"/{name}"):
            argv += ["--ro-bind", f"/{name}", f"/{name}"]
    return argv


@contextlib.contextmanager
def _alone(target: str) -> Iterator[None]:
    lock = os.open(f"{target}.lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise exceptions.Busy("somebody copies there already.") from exc
        yield
    finally:
        os.close(lock)


def _beginning(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read(4096).decode(errors="replace")


def _error(code: int, said: str) -> exceptions.ContainerStackError:
    if "No space left" in said or "quota exceeded" in said:
        return exceptions.NoSpace("what the share holds doesn't fit.")
    # Without the names of files, which are a tenant's.
    why = _FAILED.search(said)
    reason = why[1] if why else f"rsync ended with code {code}"
    return exceptions.NotSupported(f"not everything can be copied: {reason}.")
