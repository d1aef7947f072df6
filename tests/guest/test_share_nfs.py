# SPDX-License-Identifier: Apache-2.0
"""NFS shares before the kernel's client, by NFS 4.1 and 4.2; the server is what the image holds."""

import contextlib
import fcntl
import io
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from container_stack.shares import nfs, protocol
from container_stack.testing import share_protocol_contract as contract

from . import share_server, share_world
from .nfs_server import needs_nfs

pytestmark = needs_nfs

MIB = 1024**2
ALL, ALL6 = nfs.Rule("ip", "0.0.0.0/0"), nfs.Rule("ip", "::/0")


class KernelClient(contract.Client):
    def __init__(self, machine: share_server.Machine, share: str, options: str) -> None:
        self._point = machine.mount(share, options)
        self._machine = machine
        self._files: list[share_world.KernelFile] = []

    def open(self, name: str, *, write: bool) -> share_world.KernelFile:
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        self._files.append(share_world.KernelFile(self._point / name, flags))
        return self._files[-1]

    def close(self) -> None:
        for each in self._files:
            each.close()
        self._machine.unmount(self._point)


class World(share_world.World):
    """One server and two machines."""

    def __init__(
        self,
        server: share_server.Server,
        machines: tuple[share_server.Machine, share_server.Machine],
        version: str,
    ) -> None:
        super().__init__(server, machines)
        self.options = f"vers={version}"

    @property
    def speaking(self) -> protocol.Protocol:
        return nfs.Ganesha(self.server, "")  # type: ignore[arg-type]

    def rule(self, number: int, level: str = "rw") -> nfs.Rule:
        return nfs.Rule("ip", f"{share_server.NETS[number]}.2", level)

    def connect(self, number: int, share: str, answer: Mapping[str, str]) -> KernelClient:
        return KernelClient(self.machines[number], share, self.options)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("shares")
    with share_server.world(directory, "1,2") as (server, machines):
        made = World(server, machines, "4.2")
        made.start()
        yield made


class TestNfs(contract.ShareProtocolContract):
    @pytest.fixture
    def world(self, things: World) -> contract.World:
        return things


@pytest.fixture
def share(things: World) -> Iterator[str]:
    """A share that everybody may write to."""
    name = things.make_share()
    things.speaking.set_share(name, [ALL, ALL6])
    yield name
    things.speaking.remove_share(name)
    things.unmount(name)


@contextlib.contextmanager
def mounted(things: World, number: int, share: str, options: str = "vers=4.2") -> Iterator[Path]:
    machine = things.machines[number]
    point = machine.mount(share, options)
    try:
        yield point
    finally:
        machine.unmount(point)


@pytest.mark.parametrize(
    ("version", "address"),
    [
        ("4.1", f"{share_server.NETS[0]}.1"),
        ("4.2", f"{share_server.NETS[0]}.1"),
        ("4.2", f"[{share_server.NETS6[0]}:1]"),
    ],
)
def test_what_is_written_is_there(things: World, share: str, version: str, address: str) -> None:
    source = random.Random(7)
    tree = {f"many/{number}": source.randbytes(number * 371) for number in range(40)}
    tree |= {"Grüße/日本": b"Moin", "empty": b"", "large": source.randbytes(5 * MIB + 5)}
    options = f"vers={version}"
    with mounted_at(things, share, options, address) as point:
        assert f"vers={version}," in Path("/proc/self/mounts").read_text().split(str(point))[1]
        share_world.write_tree(point, tree)
        os.link(point / "large", point / "second")
        os.rename(point / "large", point / "moved")
        os.symlink("moved", point / "link")
        os.chmod(point / "empty", 0o604)
        os.chown(point / "empty", 1234, 1235)
        os.truncate(point / "moved", 3 * MIB)
        with pytest.raises(FileExistsError):
            os.open(point / "moved", os.O_CREAT | os.O_EXCL)
        assert os.statvfs(point).f_blocks * os.statvfs(point).f_frsize < share_server.SIZE
    moved = tree.pop("large")[: 3 * MIB]
    tree |= {"moved": moved, "second": moved, "link": moved}
    with mounted_at(things, share, options, address) as point:
        assert share_world.read_tree(point) == tree
    data = things.server.shares / share / "data"
    assert share_world.read_tree(data) == tree
    status = (data / "empty").stat()
    assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o604, 1234, 1235)


def test_full_share_says_so_and_its_neighbour_goes_on(things: World, share: str) -> None:
    other = things.make_share()
    things.speaking.set_share(other, [ALL])
    with mounted(things, 0, share) as full, mounted(things, 1, other) as roomy:
        with pytest.raises(OSError, match="No space"):
            share_world.fill(full / "file")
        share_world.write_tree(roomy, {"file": b"calm sea"})
        (full / "file").unlink()
        share_world.write_tree(full, {"file": b"calm sea"})
    things.speaking.remove_share(other)
    things.unmount(other)


def test_nobody_waits_after_a_start_when_there_is_nobody_to_wait_for(
    things: World, share: str
) -> None:
    # A client whose mount was cut off may be known until its lease is over.
    state = things.server.root / "var/lib/samba/nfs"
    share_server.until(lambda: not [*state.glob("v4*/node0/*")])
    kill(things)
    assert not in_grace(things)
    with mounted(things, 0, share) as point:
        share_world.write_tree(point, {"file": b"calm sea"})


def test_files_and_locks_outlive_a_kill_of_ganesha(things: World, share: str) -> None:
    with mounted(things, 0, share) as one, mounted(things, 1, share) as other:
        share_world.write_tree(one, {"lock": b"", "log": b""})
        with (one / "lock").open("r+b", 0) as ours, (other / "lock").open("r+b", 0) as theirs:
            fcntl.lockf(ours, fcntl.LOCK_EX | fcntl.LOCK_NB)
            assert locked(theirs)
            with writing(one / "log") as acknowledged:
                kill(things)
                # Answered when the grace period is over, unless the lock was lost before.
                assert locked(theirs)
                count = len(acknowledged)
                share_server.until(lambda: len(acknowledged) > count)
            ours.write(b"still ours")
            os.fsync(ours.fileno())
            assert locked(theirs)
            fcntl.lockf(ours, fcntl.LOCK_UN)
            assert not locked(theirs)
        data = things.server.shares / share / "data"
        assert (data / "log").read_bytes() == b"".join(acknowledged)
        assert (data / "lock").read_bytes() == b"still ours"


def test_who_is_away_is_waited_for_after_several_kills(things: World, share: str) -> None:
    machine = things.machines[0]
    with mounted(things, 0, share) as point, (point / "file").open("wb", 0):
        machine.cut()
        try:
            for _ in range(3):
                kill(things)
                assert in_grace(things)
        finally:
            machine.join()


@contextlib.contextmanager
def mounted_at(things: World, share: str, options: str, address: str) -> Iterator[Path]:
    machine = things.machines[0]
    point = machine.mount(share, options, address=address)
    try:
        yield point
    finally:
        machine.unmount(point)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[list[bytes]]:
    """Keep adding to a file; return what the server has acknowledged, and no error in the end."""
    acknowledged: list[bytes] = []
    failures: list[OSError] = []
    done = threading.Event()

    def write() -> None:
        try:
            with path.open("ab", 0) as file:
                while not done.is_set():
                    record = b"%d\n" % len(acknowledged)
                    file.write(record)
                    os.fsync(file.fileno())
                    acknowledged.append(record)
                    time.sleep(0.02)
        except OSError as exc:
            failures.append(exc)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield acknowledged
    finally:
        done.set()
        thread.join(120)
    assert failures == []


def locked(file: io.FileIO) -> bool:
    """Tell whether somebody else has the lock; take it if not."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def kill(things: World) -> None:
    """Kill Ganesha, and wait until it is back."""
    before = things.server.said("pidof", "ganesha.nfsd")
    things.server.said("killall", "-9", "ganesha.nfsd")
    share_server.until(lambda: things.server.said("pidof", "ganesha.nfsd") not in ("", before))
    things.speaking.wait_ready(60)


def in_grace(things: World) -> bool:
    """Ask Ganesha whether it waits for clients that it knew before its start."""
    said = things.server.said(
        "dbus-send", "--system", "--print-reply", "--dest=org.ganesha.nfsd",
        "/org/ganesha/nfsd/admin", "org.ganesha.nfsd.admin.get_grace",
    )  # fmt: skip
    # The second one says that the first could be told.
    return "true" in said.split("boolean")[1]
