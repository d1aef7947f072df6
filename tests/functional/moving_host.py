# SPDX-License-Identifier: Apache-2.0
"""Two back ends of this host between which shares move, and a share with all that one can hold."""

import contextlib
import dataclasses
import hashlib
import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.host import containers
from container_stack.rootwrap import executor
from container_stack.shares import cifs, model, moving, service

from . import shares_host
from .smb_client import Client

ALICE, BOB_READS = cifs.Rule("user", "alice"), cifs.Rule("user", "bob", "ro")
MIB = 1024**2
#: An access control list as the kernel keeps it: the owner, user 4321, group, mask and others.
ACL = bytes.fromhex(
    "0200000001000700ffffffff02000500e110000004000500ffffffff10000700ffffffff20000000ffffffff"
)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two back ends of this host: one has xfs, the other btrfs, each below a directory of its own.

    :param moves: from the first to the second.
    """

    source: shares_host.Host
    target: shares_host.Host
    run: executor.Executor
    other: executor.Executor

    def services(
        self, engine: containers.Engine | None = None
    ) -> tuple[service.ShareService, service.ShareService]:
        """Return the two services as after a start of their process."""
        engine = engine or containers.Engine()
        return self.source.service(engine, self.run), self.target.service(engine, self.other)

    def recovered(self) -> tuple[service.ShareService, service.ShareService]:
        """Return them after their recovery."""
        old, new = self.services()
        for each in (old, new):
            assert each.recover().failed == {}
        old.moves_to(new).settle()
        return old, new

    def things(self) -> list[dict[str, int]]:
        return [self.source.things(), self.target.things()]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, samba_image: str) -> Iterator[Pair]:
    net = f"10.250.{100 + os.getpid() % 100}"
    with contextlib.ExitStack() as undo:
        hosts = [
            undo.enter_context(
                contextlib.closing(
                    shares_host.Host(tmp_path_factory.mktemp(name), samba_image, net)
                )
            )
            for name in ("old", "new")
        ]
        hosts[1].settings = dataclasses.replace(
            hosts[1].settings, filesystem="btrfs", pool_size=2 * shares_host.GIB
        )
        made = Pair(hosts[0], hosts[1], hosts[0].new_executor(), hosts[1].new_executor())
        old, new = made.recovered()
        old.create_server(hosts[0].spec(10))
        new.create_server(hosts[1].spec(20))
        yield made


@pytest.fixture
def share(pair: Pair) -> Iterator[str]:
    """A share at the first back end, with two users and all kinds of files."""
    old, new = pair.services()
    before = pair.things()
    make(pair, "share-1")
    yield "share-1"
    for each in (old, new):
        for left in each.list():
            each.delete(left.id)
    assert pair.things() == before


def make(pair: Pair, share_id: str) -> None:
    old, _ = pair.services()
    old.create(share_id, pair.source.spec(10).id, shares_host.SMALL)
    old.set_rules(share_id, [ALICE, BOB_READS])
    fill(data(pair, share_id))


def data(pair: Pair, share_id: str) -> Path:
    return pair.source.state_dir / "mounts/shares" / pair.source.spec(10).id / share_id / "data"


def place(pair: Pair, **values: object) -> moving.Place:
    return moving.Place("share-2", pair.target.spec(20).id, **values)  # type: ignore[arg-type]


def fill(top: Path) -> None:
    """Make all that a share can hold."""
    (top / "deep/er").mkdir(parents=True)
    (top / "plain").write_bytes(os.urandom(3 * MIB + 17))
    (top / "deep/er/same").hardlink_to(top / "plain")
    (top / "empty").touch(mode=0o640)
    (top / "away").symlink_to("/etc/passwd")
    (top / "nowhere").symlink_to("../../../../odd\nname")
    (top / "with\nnewline and \udcff\udcfe").write_text("odd")
    (top / "-rf *").mkdir(mode=0o2775)
    with (top / "holes").open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(40 * MIB)
        file.write(b"island")
    os.mkfifo(top / "pipe")
    os.mknod(top / "null", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    os.chown(top / "plain", 123456, 1000)
    os.chown(top / "away", 4321, 8765, follow_symlinks=False)
    (top / "setuid").touch()
    (top / "setuid").chmod(0o4755)
    for name, value in {
        "user.DOSATTRIB": os.urandom(60),
        "user.DosStream.notes:$DATA": os.urandom(3000),
        "security.NTACL": os.urandom(300),
        "trusted.odd": b"",
        "system.posix_acl_access": ACL,
    }.items():
        os.setxattr(top / "empty", name, value)
    os.setxattr(top / "deep", "system.posix_acl_default", ACL)
    os.utime(top / "plain", ns=(1, 981173106_123456789))
    os.utime(top / "away", ns=(1, 1_000_000_007), follow_symlinks=False)
    os.utime(top / "deep", ns=(1, 5_000_000_009))


def fingerprint(top: Path) -> dict[str, tuple[object, ...]]:
    """Return all that there is to say of what is below a directory."""
    found = {}
    inodes: dict[int, str] = {}
    for directory, names, files in os.walk(os.fsencode(top)):
        for name in sorted((b".", *names, *files)):
            path = os.path.join(directory, name)
            this = os.lstat(path)
            kind = stat.S_IFMT(this.st_mode)
            content: object = None
            if kind == stat.S_IFREG:
                content = hashlib.sha256(Path(os.fsdecode(path)).read_bytes()).hexdigest()
            elif kind == stat.S_IFLNK:
                content = os.readlink(path)
            known = os.fsdecode(os.path.relpath(path, os.fsencode(top)))
            links = this.st_nlink if kind == stat.S_IFREG else 0
            # For rsync all else is the same if it was changed in the same second.
            times = this.st_mtime_ns if kind == stat.S_IFREG else this.st_mtime_ns // 10**9
            names_of = os.listxattr(path, follow_symlinks=False)
            kept = {each: os.getxattr(path, each, follow_symlinks=False) for each in names_of}
            first = inodes.setdefault(this.st_ino, known) if links > 1 else known
            found[known] = (
                *(this.st_mode, this.st_uid, this.st_gid, this.st_rdev, links, times),
                *(content, tuple(sorted(kept.items())), first),
            )
    return found


def read(shared: model.Share, user: str, key: str, name: str = "plain") -> bytes:
    client = Client(shared.export_location.split("\\")[2], shared.id, user, key)
    try:
        return client.open(name, write=False).read(8)
    finally:
        client.close()


def sandboxed(copier: threading.Thread, path: str) -> set[int]:
    """Return the processes that copy to somewhere below a directory, as soon as there are some."""
    found: set[int] = set()
    while not found:
        assert copier.is_alive()
        for each in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (each / "cmdline").read_bytes().split(b"\0")
                if words[0] == b"bwrap" and any(path.encode() in word for word in words):
                    found |= below(int(each.name))
    return found


def below(pid: int) -> set[int]:
    """Return the processes of a sandbox that are at work."""
    found = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= below(int(child))
        if Path(f"/proc/{child}/comm").read_text() == "rsync\n":
            found.add(int(child))
    return found


def keys(pair: Pair, share_id: str) -> dict[str, str]:
    return dict(pair.services()[0].set_rules(share_id, [ALICE, BOB_READS]))
