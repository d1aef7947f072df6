# SPDX-License-Identifier: Apache-2.0
"""Shares on LVM through their whole service: snapshots under the kernel's client."""

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.shares import service
from container_stack.testing import kill_steps

from . import share_host, share_server, volume_groups

pytestmark = volume_groups.needs_device_mapper

MIB = 1024**2
#: Bytes of a share: the smallest that there are.
SIZES = {"ext4": 64 * MIB, "xfs": 304 * MIB}
#: Bytes of a record.
SIZE = 4096
#: Seconds that a snapshot may hold up clients.
MOMENT = 1.0


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[share_host.dockerd.Dockerd]:
    directory = tmp_path_factory.mktemp("engine")
    with share_host.engine(directory) as made:
        yield made
    # A guest's files are in its memory.
    shutil.rmtree(directory)


@pytest.fixture(scope="module", params=["thick-ext4", "thin-xfs"])
def host(
    request: pytest.FixtureRequest,
    engine: share_host.dockerd.Dockerd,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[share_host.ShareHost]:
    how, kind = request.param.split("-")
    directory = tmp_path_factory.mktemp(how)
    pool = 1600 * MIB if how == "thin" else None
    with volume_groups.volume_group(directory, 2600 * MIB, thin_pool=pool) as group:
        made = share_host.ShareHost(directory, engine, group, kind, thin=how == "thin")
        with contextlib.closing(made):
            yield made


@pytest.fixture(scope="module")
def shares(host: share_host.ShareHost) -> service.ShareService:
    """The service, with a server."""
    made = host.open()
    made.recover()
    made.create_server(host.spec())
    return made


@pytest.fixture
def share(host: share_host.ShareHost, shares: service.ShareService) -> Iterator[tuple[str, str]]:
    """A share that alice may write to, and her password."""
    shares.create("share-1", "server-1", SIZES[host.filesystem])
    yield "share-1", shares.set_rules("share-1", [share_host.ALICE])["alice"]
    shares.delete("share-1")


def test_a_snapshot_is_taken_under_writes_looked_into_copied_and_gone_back_to(
    host: share_host.ShareHost, shares: service.ShareService, share: tuple[str, str]
) -> None:
    name, key = share
    before = host.volumes()
    with host.mounted(name, key) as point, writing(point / "log") as log:
        size = room(point)
        # A machine that is busy with others' work may hold up clients, too.
        for number in range(3):
            log.slowest, count = 0.0, len(log.acknowledged)
            shares.snapshots.create(name, f"snap-{number}")
            log.wait_for_more()
            if log.slowest < MOMENT:
                break
    assert log.slowest < MOMENT
    snapshot = f"snap-{number}"

    # Read-only, with all that was there when it was asked for.
    shares.snapshots.set_rules(snapshot, [share_host.ALICE])
    with host.mounted(snapshot, key) as point:
        kept = (point / "log").read_bytes()
        assert whole(kept) >= count
        with pytest.raises(OSError, match=r"Read-only|denied"):
            (point / "log").write_bytes(b"storm")

    # A share of its own, larger.
    larger = SIZES[host.filesystem] + 64 * MIB
    shares.create("share-2", "server-1", larger, snapshot_id=snapshot)
    theirs = shares.set_rules("share-2", [share_host.ALICE])["alice"]
    with host.mounted("share-2", theirs) as point:
        assert (point / "log").read_bytes() == kept
        assert size < room(point) <= larger
        (point / "log").write_bytes(b"theirs")

    # Gone back to, while somebody has it mounted.
    with host.mounted(name, key, ",soft") as point:
        assert whole((point / "log").read_bytes()) == len(log.acknowledged)
        shares.snapshots.revert(name, snapshot)
    with host.mounted(name, key) as point:
        assert (point / "log").read_bytes() == kept
        (point / "log").write_bytes(b"ours")

    for each in shares.snapshots.list(name):
        shares.snapshots.delete(each.id)
    shares.delete("share-2")
    assert host.volumes() == before
    with host.mounted(name, key) as point:
        assert (point / "log").read_bytes() == b"ours"


def test_what_a_killed_snapshot_left_held_up_goes_on_after_the_next_start(
    host: share_host.ShareHost, shares: service.ShareService, share: tuple[str, str]
) -> None:
    name, key = share
    path = Path(shares.servers.directory("server-1"), name)
    device = volume_groups.lvm("findmnt", "--noheadings", "--output=SOURCE", path)
    with host.mounted(name, key) as point:
        (point / "log").write_bytes(b"calm sea")
        # What LVM does first, and undoes last: here it is killed between.
        volume_groups.lvm("dmsetup", "suspend", device)
        try:
            assert host.open().recover().failed == {}
            kill_steps.write_within(path / "data/later", "rain")
        finally:
            volume_groups.lvm("dmsetup", "resume", device)
        assert (point / "later").read_bytes() == b"rain"


def room(point: Path) -> int:
    """Return the bytes that a client sees, used or not."""
    found = os.statvfs(point)
    return found.f_blocks * found.f_frsize


class Log:
    """What a client has written to a file, a record at a time, each flushed.

    :ivar slowest: seconds that the slowest record took.
    """

    def __init__(self, path: Path) -> None:
        self.acknowledged: list[int] = []
        self.slowest = 0.0
        self._path = path
        self._stop = threading.Event()

    def run(self) -> None:
        with self._path.open("wb", 0) as file:
            while not self._stop.is_set():
                start, number = time.monotonic(), len(self.acknowledged)
                file.write(record(number))
                os.fsync(file.fileno())
                self.acknowledged.append(number)
                self.slowest = max(self.slowest, time.monotonic() - start)
                time.sleep(0.005)

    def stop(self) -> None:
        self._stop.set()

    def wait_for_more(self) -> None:
        """Wait until it has written a few more."""
        count = len(self.acknowledged)
        share_server.until(lambda: len(self.acknowledged) > count + 3)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[Log]:
    """Write while the body runs."""
    log = Log(path)
    thread = threading.Thread(target=log.run)
    thread.start()
    try:
        log.wait_for_more()
        yield log
    finally:
        log.stop()
        thread.join(60)
        assert not thread.is_alive()


def record(number: int) -> bytes:
    return number.to_bytes(8, "big") * (SIZE // 8)


def whole(data: bytes) -> int:
    """Return how many records there are, one after the other without a gap."""
    count = 0
    while data[count * SIZE :][:SIZE] == record(count):
        count += 1
    return count
