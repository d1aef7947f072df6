# SPDX-License-Identifier: Apache-2.0
"""A machine with shares on a disk that outlives it: one life up to its end, and a look after it.

Run in a guest as ``python -m guest.power live|look DIRECTORY``, with ``tests`` in PYTHONPATH. The
directory is the host's, and holds the disk and what was said to have been done.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from container_stack.shares import service

from . import share_host, share_server

MIB = 1024**2
SMALL = 320 * MIB
#: Bytes of a record.
SIZE = 4096
_GROUP = "cstest-power"
_TOP = Path("/srv/cstest-power")


def main() -> None:
    doing, directory = sys.argv[1:]
    {"live": live, "look": look}[doing](Path(directory))


def live(directory: Path) -> None:
    """Serve a share to a client that writes, and do everything beside it, until the power goes."""
    with machine(directory) as host:
        shares = host.open()
        shares.recover()
        shares.create_server(host.spec())
        shares.create("share-1", "server-1", SMALL)
        key = shares.set_rules("share-1", [share_host.ALICE])["alice"]
        say(directory / "key", key)
        with host.mounted("share-1", key) as point:
            threading.Thread(target=write, args=(point / "log", directory), daemon=True).start()
            while True:
                for word, action in operations(shares, directory).items():
                    say(directory / "doing", word)
                    action()


def operations(shares: service.ShareService, directory: Path) -> Mapping[str, Callable[[], object]]:
    """Return what is done again and again, in this order."""
    size = shares.get("share-1").size + 16 * MIB
    return {
        "allow": lambda: say(directory / "bob", allow_bob(shares)),
        "extend": lambda: shares.extend("share-1", size),
        "snapshot": lambda: shares.snapshots.create("share-1", "snap-1"),
        "rule": lambda: shares.snapshots.set_rules("snap-1", [share_host.ALICE]),
        "clone": lambda: shares.create("share-2", "server-1", size, snapshot_id="snap-1"),
        "delete": lambda: shares.delete("share-2"),
        "forget": lambda: shares.snapshots.delete("snap-1"),
        "deny": lambda: shares.set_rules("share-1", [share_host.ALICE]),
    }


def allow_bob(shares: service.ShareService) -> str:
    """Let him in as well, and return his password."""
    return shares.set_rules("share-1", [share_host.ALICE, share_host.BOB])["bob"]


def write(path: Path, directory: Path) -> None:
    """Write records, and say of each that the server has acknowledged it."""
    told = os.open(directory / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    with path.open("wb", 0) as file:
        for number in range(10**6):
            file.write(record(number))
            os.fsync(file.fileno())
            os.write(told, b"%d\n" % number)
            os.fsync(told)
            time.sleep(0.01)


def look(directory: Path) -> None:
    """Start again, and say what failed then, what is lost, and what is left of half-done things."""
    with machine(directory) as host:
        shares = host.open()
        failed = dict(shares.recover().failed)
        key = (directory / "key").read_text()
        with host.mounted("share-1", key) as point:
            data = (point / "log").read_bytes()
            (point / "later").write_bytes(b"rain")
        changing = (directory / "doing").read_text() in ("allow", "deny")
        bobs = allow_bob(shares) if changing else (directory / "bob").read_text()
        with host.mounted("share-1", bobs, user="bob") as point:
            (point / "later").read_bytes()
        acknowledged = map(int, (directory / "acknowledged").read_text().split())
        lost = [n for n in acknowledged if data[n * SIZE :][:SIZE] != record(n)]
        host.clear(shares)
        left = sorted(host.volumes() - {"state", "pool"})
        left.extend(sorted(map(str, (_TOP / "state" / "mounts" / "shares").iterdir())))
    say(directory / "found", json.dumps({"failed": failed, "lost": lost, "left": left}))


@contextlib.contextmanager
def machine(directory: Path) -> Iterator[share_host.ShareHost]:
    """Have the disk, with an engine and a share service on it."""
    disk, new = directory / "disk", not (directory / "disk").exists()
    if new:
        with disk.open("wb") as file:
            file.truncate(6 * 1024 * MIB)
    device = share_server.run("losetup", "--find", "--show", disk).strip()
    if new:
        share_server.run("vgcreate", _GROUP, device)
        share_server.run("lvcreate", "--yes", "--size=2g", "--name=state", _GROUP)
        share_server.run("lvcreate", "--type=thin-pool", "--size=3g", "--name=pool", _GROUP)
        share_server.run("mkfs.ext4", "-q", f"/dev/{_GROUP}/state")
    # As at a boot: what was half-made may not become active, and all else does.
    subprocess.run(["vgchange", "--activate=y", _GROUP], check=False)
    _TOP.mkdir(parents=True)
    share_server.run("mount", f"/dev/{_GROUP}/state", _TOP)
    # Usually below /run, of which a loss of power leaves nothing.
    shutil.rmtree(_TOP / "engine" / "exec", ignore_errors=True)
    with share_host.engine(_TOP / "engine") as engine:
        yield share_host.ShareHost(_TOP, engine, _GROUP, "xfs", thin=True)


def record(number: int) -> bytes:
    return number.to_bytes(8, "big") * (SIZE // 8)


def say(path: Path, text: str) -> None:
    """Leave word with the host, at once."""
    new = path.with_suffix(".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.rename(path)


if __name__ == "__main__":
    main()
