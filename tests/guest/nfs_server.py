# SPDX-License-Identifier: Apache-2.0
"""The kernel's NFS server, in a network namespace of its own: behind a link that can be cut."""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ADDRESS = "10.231.77.2"
#: As clients call it: NFS 4 has one tree, of which the top must be exported, too.
EXPORT = "/volumes"
#: Where clients' root is nobody.
SQUASHED = "/squashed"
_TOP = "/srv/cstest-nfs"
_HERE = "10.231.77.1"
_SPACE, _LINK = "cstest-nfs", "cstest-nfs0"

#: A guest is there for these tests, so that in one a missing client or server is a failure.
needs_nfs = pytest.mark.skipif(
    "UML_GUEST" not in os.environ, reason="not in a guest: run tools/run-tests.sh guest"
)

# tmpfs has no number of its own, so that exports are given one. mountd stays in the foreground, and
# with it the namespace of mounts that ip made for it.
_SERVE = f"""
set -e
mkdir -p {_TOP} /var/lib/nfs/v4recovery
mount -t tmpfs top {_TOP}
mkdir {_TOP}{EXPORT} {_TOP}{SQUASHED}
mount -t tmpfs -o mode=755,size="$1" volumes {_TOP}{EXPORT}
mount -t tmpfs -o mode=755 squashed {_TOP}{SQUASHED}
mount -t nfsd nfsd /proc/fs/nfsd
exportfs -o ro,insecure,no_subtree_check,fsid=0 "*:{_TOP}"
exportfs -o rw,no_root_squash,insecure,no_subtree_check,fsid=77 "*:{_TOP}{EXPORT}"
exportfs -o rw,root_squash,insecure,no_subtree_check,fsid=78 "*:{_TOP}{SQUASHED}"
rpc.nfsd --no-nfs-version 3 --grace-time 10 --lease-time 10 4
exec rpc.mountd --foreground --no-nfs-version 3 2>&1
"""
_END = "rpc.nfsd 0; exportfs -au"


class Server:
    """A server that exports an empty directory in memory."""

    def __init__(self, size: str) -> None:
        for module in ("nfsd", "nfsv4", "veth"):
            _run("modprobe", module)
        _run("ip", "netns", "add", _SPACE)
        _run("ip", "link", "add", _LINK, "type", "veth", "peer", "name", "eth0", "netns", _SPACE)
        _run("ip", "address", "add", f"{_HERE}/24", "dev", _LINK)
        self._inside("ip", "address", "add", f"{ADDRESS}/24", "dev", "eth0")
        self._inside("ip", "link", "set", "eth0", "up")
        self._inside("ip", "link", "set", "lo", "up")
        _run("ip", "link", "set", _LINK, "up")
        words = ("ip", "netns", "exec", _SPACE, "sh", "-c", _SERVE, "sh", size)
        self._mountd = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while "mountd" not in Path(f"/proc/{self._mountd.pid}/comm").read_text(encoding="utf-8"):
            assert self._mountd.poll() is None, "NFS doesn't start"
            assert time.monotonic() < end, "NFS takes too long to start"
            time.sleep(0.05)

    @property
    def directory(self) -> Path:
        """What it exports, seen on the server."""
        return Path(f"/proc/{self._mountd.pid}/root{_TOP}{EXPORT}")

    def cut(self) -> None:
        """Lose whatever it answers."""
        self._inside("ip", "route", "add", "blackhole", f"{_HERE}/32")

    def join(self) -> None:
        """End a cut."""
        self._inside("ip", "route", "delete", "blackhole", f"{_HERE}/32")

    def stop(self) -> None:
        self._inside("nsenter", f"--mount=/proc/{self._mountd.pid}/ns/mnt", "sh", "-c", _END)
        self._mountd.terminate()
        self._mountd.wait(30)
        _run("ip", "link", "delete", _LINK)
        _run("ip", "netns", "delete", _SPACE)

    def _inside(self, *words: str) -> None:
        _run("ip", "netns", "exec", _SPACE, *words)


@contextlib.contextmanager
def server(size: str = "400m") -> Iterator[Server]:
    """Have a server for a while."""
    made = Server(size)
    try:
        yield made
    finally:
        made.stop()


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
