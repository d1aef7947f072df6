# SPDX-License-Identifier: Apache-2.0
"""File systems on real loop devices, mounted, frozen and shared through the real filters."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import filesystem, loop, mounts, storage
from container_stack.rootwrap import mountinfo
from container_stack.testing import privilege, storage_world

MIB = 1024**2


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def volumes(state: Path) -> Iterator[storage.Storage]:
    runner = privilege.make_executor(state)
    backend = loop.LoopStorage.open(storage.Pool(runner))
    yield backend
    for volume in backend.list():
        backend.delete(volume.id)
    runner.close()
    assert storage_world.leftovers(str(state)) == []


@pytest.fixture
def device(volumes: storage.Storage) -> str:
    volumes.create("one", 300 * MIB, owner="test")
    return volumes.activate("one")


@pytest.fixture
def filesystems(volumes: storage.Storage, state: Path) -> Iterator[filesystem.Filesystems]:
    runner = privilege.make_executor(state)
    found = filesystem.Filesystems(runner)
    yield found
    for mount in reversed(mounts.below(str(state / "mounts"))):
        found.unmount(mount.path)
    found.unshare_tree(str(state / "mounts"))
    runner.close()


@pytest.fixture
def point(state: Path) -> str:
    return str(state / "mounts" / "server" / "one")


@pytest.fixture
def mounted(filesystems: filesystem.Filesystems, device: str, point: str) -> Path:
    filesystems.mount(device, point, "xfs")
    return Path(point)


def test_nothing_in_a_mount_can_be_run_or_be_a_device(mounted: Path) -> None:
    found = os.statvfs(mounted).f_flag
    assert found & os.ST_NOSUID
    assert found & os.ST_NODEV
    assert found & os.ST_NOEXEC
    assert not found & os.ST_RDONLY


def test_mounting_twice_is_mounting_once(
    filesystems: filesystem.Filesystems, device: str, point: str
) -> None:
    with futures.ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: filesystems.mount(device, point, "xfs"), range(8)))
    assert filesystems.mounted(point) == device
    assert filesystems.mount_points(device) == [point]
    filesystems.unmount(point)
    filesystems.unmount(point)
    assert filesystems.mounted(point) is None
    assert not os.path.exists(point)


def test_only_the_way_to_a_mount_is_open(
    filesystems: filesystem.Filesystems, device: str, state: Path
) -> None:
    old = os.umask(0o077)
    try:
        filesystems.mount(device, f"{state}/mounts/a/b/c", "xfs")
    finally:
        os.umask(old)
    modes = [(state / "mounts" / part).stat().st_mode & 0o777 for part in ("", "a", "a/b")]
    assert modes == [0o700, 0o711, 0o711]
    filesystems.unmount(f"{state}/mounts/a/b/c")


def test_read_only_mount_refuses_writers(
    filesystems: filesystem.Filesystems, device: str, point: str
) -> None:
    filesystems.mount(device, point, "xfs", read_only=True)
    with pytest.raises(OSError, match="Read-only"):
        Path(point, "file").write_text("x")
    with pytest.raises(exceptions.Busy):
        filesystems.mount(device, point, "xfs")


def test_files_are_never_hidden_by_a_mount(
    filesystems: filesystem.Filesystems, device: str, point: str
) -> None:
    Path(point).mkdir(parents=True)
    Path(point, "stray").write_text("written while nothing was mounted")
    with pytest.raises(exceptions.InvalidRequest, match=point):
        filesystems.mount(device, point, "xfs")
    assert Path(point, "stray").exists()
    Path(point, "stray").unlink()


def test_second_device_does_not_go_over_the_first(
    filesystems: filesystem.Filesystems, volumes: storage.Storage, mounted: Path, device: str
) -> None:
    volumes.create("two", 300 * MIB, owner="test")
    with pytest.raises(exceptions.Busy, match=device):
        filesystems.mount(volumes.activate("two"), str(mounted), "xfs")


@pytest.mark.parametrize("place", ["/mnt", "{state}/mounts", "{state}/mounts/../x", "{state}/x/y"])
def test_nothing_is_mounted_or_made_outside_the_tree(
    filesystems: filesystem.Filesystems, device: str, state: Path, place: str
) -> None:
    with pytest.raises(exceptions.InvalidRequest):
        filesystems.mount(device, place.format(state=state), "xfs")
    assert not (state / "x").exists()


def test_failed_mount_leaves_no_directory(
    filesystems: filesystem.Filesystems, device: str, point: str
) -> None:
    with pytest.raises(exceptions.CommandFailed):
        filesystems.mount(device, point, "ext4")
    assert not os.path.exists(point)


def test_busy_mount_is_named_and_kept(filesystems: filesystem.Filesystems, mounted: Path) -> None:
    with (mounted / "file").open("w"), pytest.raises(exceptions.Busy, match=str(mounted)):
        filesystems.unmount(str(mounted))
    assert filesystems.mounted(str(mounted))


def test_unmount_waits_for_the_last_file_to_close(
    filesystems: filesystem.Filesystems, mounted: Path
) -> None:
    file = (mounted / "file").open("w")
    threading.Timer(0.5, file.close).start()
    filesystems.unmount(str(mounted))
    assert not mounted.exists()


def test_usage_is_that_of_the_file_system(
    filesystems: filesystem.Filesystems, mounted: Path
) -> None:
    before = filesystems.usage(str(mounted))
    (mounted / "file").write_bytes(bytes(64 * MIB))
    after = filesystems.usage(str(mounted))
    assert 200 * MIB < after.total <= 300 * MIB
    assert 64 * MIB <= after.used - before.used == before.free - after.free < 80 * MIB
    with pytest.raises(exceptions.NotFound):
        filesystems.usage(str(mounted.parent))


def test_writers_wait_while_frozen_and_then_go_on(
    filesystems: filesystem.Filesystems, mounted: Path
) -> None:
    with futures.ThreadPoolExecutor(1) as threads:
        with filesystems.freeze(str(mounted)):
            writing = threads.submit((mounted / "file").write_text, "late")
            with pytest.raises(futures.TimeoutError):
                writing.result(0.3)
        assert writing.result(10) == 4
    filesystems.thaw(str(mounted))


def test_failure_while_frozen_thaws(filesystems: filesystem.Filesystems, mounted: Path) -> None:
    with pytest.raises(RuntimeError), filesystems.freeze(str(mounted)):
        raise RuntimeError
    (mounted / "file").write_text("x")


def test_freezing_twice_is_refused_and_the_first_holds(
    filesystems: filesystem.Filesystems, mounted: Path
) -> None:
    with filesystems.freeze(str(mounted)):
        with pytest.raises(exceptions.Busy), filesystems.freeze(str(mounted)):
            pass
        with futures.ThreadPoolExecutor(1) as threads:
            writing = threads.submit((mounted / "file").write_text, "late")
            time.sleep(0.2)
            assert not writing.done()
            filesystems.thaw(str(mounted))


def test_later_mounts_appear_in_a_namespace_below_the_shared_tree(
    filesystems: filesystem.Filesystems, device: str, point: str, state: Path
) -> None:
    tree = str(state / "mounts")
    with futures.ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: filesystems.share_tree(tree), range(4)))
    assert [mount.path for mount in mountinfo.table()].count(tree) == 1
    command = ["unshare", "--mount", "--propagation=slave", "sh", "-c"]
    script = f"echo ready; read go; ls {point}; read go; ls {point} 2>/dev/null || echo gone"
    with subprocess.Popen(
        [*command, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as container:
        assert container.stdin is not None
        assert container.stdout is not None
        assert container.stdout.readline() == "ready\n"
        filesystems.mount(device, point, "xfs")
        Path(point, "seen-inside").touch()
        container.stdin.write("\n")
        assert container.stdout.readline() == "seen-inside\n"
        with pytest.raises(exceptions.Busy):
            filesystems.unshare_tree(tree)
        filesystems.unmount(point)
        container.stdin.write("\n")
        assert container.stdout.readline() == "gone\n"
    filesystems.unshare_tree(tree)
    filesystems.unshare_tree(tree)
    assert filesystems.mounted(tree) is None


def test_tree_is_not_shared_over_mounts_that_it_would_hide(
    filesystems: filesystem.Filesystems, mounted: Path, state: Path
) -> None:
    if mounts.holding(str(state)).shared:
        pytest.skip("everything is shared on this host, nothing has to be")
    with pytest.raises(exceptions.Busy, match=str(mounted)):
        filesystems.share_tree(str(state / "mounts"))
    assert filesystems.mounted(str(mounted))
