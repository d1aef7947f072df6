# SPDX-License-Identifier: Apache-2.0
"""container-stack-fence: who uses what is mounted below a directory is killed, and nobody else."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.rootwrap import fence, mountinfo

from . import cluster_hosts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

#: What has a file open, stands in its directory, or has mapped it without a descriptor.
OPEN = 'exec 3>>"$0/file"; exec sleep infinity'
STAND = 'cd "$0"; exec sleep infinity'
MAP = (
    "import mmap, os, sys, time; fd = os.open(sys.argv[1] + '/file', os.O_RDWR | os.O_CREAT);"
    "os.write(fd, b'x' * 4096); it = mmap.mmap(fd, 4096); os.close(fd); time.sleep(1e6)"
)
#: A container has the volume elsewhere, and needn't have anything open.
CONTAINER = 'mount --bind "$0" /mnt && umount "$0" && exec sleep infinity'

#: What happens below follows the host, but the volume itself stays when the host's goes.
FOLLOW = 'mount -t tmpfs none /mnt && mkdir /mnt/a && mount --bind "$0" /mnt/a && sleep infinity'


@pytest.fixture
def space() -> Iterator[cluster_hosts.Space]:
    """Mounts and processes of the test's own: nobody else's are looked at."""
    made = cluster_hosts.Space(
        *("--mount", "--pid", "--fork", "--mount-proc", "--propagation=private", "--net")
    )
    yield made
    made.end()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    directory = tmp_path / "mounts"
    for name in ("volume", "second volume"):
        (directory / name).mkdir(parents=True)
        (tmp_path / "data" / name).mkdir(parents=True)
    return directory


class Host:
    """A host in namespaces, with volumes mounted below a tree."""

    def __init__(self, space: cluster_hosts.Space, tree: Path) -> None:
        self._words = space.words("--mount", "--pid")
        self._pid = space.pid
        self.tree = tree
        self.run("sh", "-c", "mount --make-shared /")
        for name in ("volume", "second volume"):
            self.run("mount", "--bind", str(tree.parent / "data" / name), str(tree / name))

    def run(self, *argv: str) -> None:
        subprocess.run([*self._words, *argv], check=True)

    def start(self, *argv: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*self._words, *argv], stdin=subprocess.DEVNULL)

    def fence(self, tree: Path | None = None) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "container_stack.rootwrap.fence", str(tree or self.tree)]
        return subprocess.run(
            [*self._words, *argv], capture_output=True, text=True, timeout=60, check=False
        )

    def mounted(self) -> list[str]:
        found = [mount.path for mount in mountinfo.table(self._pid)]
        return [path for path in found if path.startswith(f"{self.tree}/")]


@pytest.fixture
def host(space: cluster_hosts.Space, tree: Path) -> Host:
    return Host(space, tree)


def users(host: Host, path: Path) -> dict[str, subprocess.Popen[bytes]]:
    unshare = ("unshare", "--mount", "--propagation=private")
    follow = ("unshare", "--mount", "--propagation=slave")
    found = {
        "open": host.start("sh", "-c", OPEN, str(path)),
        "stand": host.start("sh", "-c", STAND, str(path)),
        "map": host.start(sys.executable, "-c", MAP, str(path)),
        "container": host.start(*unshare, "sh", "-c", CONTAINER, str(path)),
        "container that follows": host.start(*follow, "sh", "-c", FOLLOW, str(path)),
        "other mounts": host.start(*unshare, "sleep", "infinity"),
    }
    time.sleep(1.5)
    assert all(each.poll() is None for each in found.values())
    return found


def test_all_use_ends(host: Host) -> None:
    found = users(host, host.tree / "volume")
    found |= {f"{name} 2": each for name, each in users(host, host.tree / "second volume").items()}
    done = host.fence()
    assert (done.returncode, done.stderr) == (0, "")
    assert host.mounted() == []
    assert os.listdir(host.tree) == [], "what a container would write into instead"
    for name, each in found.items():
        each.wait(10)
        assert each.returncode in (-9, 137), name


def test_nobody_else_is_touched(host: Host, tree: Path) -> None:
    slave = ("unshare", "--mount", "--propagation=slave")
    whole = "mount --rbind / /mnt && exec sleep infinity"
    found = {
        "in the tree, in no volume": host.start("sh", "-c", STAND, str(tree)),
        "in what is mounted, itself": host.start(
            "sh", "-c", OPEN, str(tree.parent / "data" / "volume")
        ),
        "whose mounts follow ours": host.start(*slave, "sleep", "infinity"),
        "who follows all of the host": host.start(*slave, "sh", "-c", whole),
        "elsewhere": host.start("sleep", "infinity"),
    }
    time.sleep(1)
    assert host.fence().returncode == 0
    assert host.mounted() == []
    assert {name: each.poll() for name, each in found.items()} == dict.fromkeys(found)
    for each in found.values():
        each.kill()
        each.wait()


def test_who_only_passes_by_is_not_killed(host: Host, tree: Path) -> None:
    unshare = ("unshare", "--mount", "--propagation=private")
    leave = 'sleep 1; umount "$0"; umount "$1"; exec sleep infinity'
    names = [str(tree / name) for name in ("volume", "second volume")]
    passing = host.start(*unshare, "sh", "-c", leave, *names)
    time.sleep(0.3)
    code = "from container_stack.rootwrap import fence; fence.COPY_MOMENT = 30.0"
    host.run(sys.executable, "-c", f"{code}; assert not fence.end({str(tree)!r}, 60.0)")
    assert host.mounted() == []
    assert passing.poll() is None
    passing.kill()
    passing.wait()


def test_what_is_mounted_over_itself_goes_too(host: Host, tree: Path) -> None:
    for _each in range(3):
        host.run("mount", "--bind", str(tree.parent / "data" / "volume"), str(tree / "volume"))
    assert len(host.mounted()) > 4
    assert host.fence().returncode == 0
    assert host.mounted() == []


def test_a_mount_point_with_files_of_its_own_is_kept(host: Host, tree: Path) -> None:
    (tree / "beside").mkdir()
    (tree / "beside" / "file").touch()
    host.run("mount", "--bind", str(tree.parent / "data" / "volume"), str(tree / "beside"))
    assert host.fence().returncode == 0
    assert os.listdir(tree / "beside") == ["file"]


def test_nothing_to_do_is_done(host: Host) -> None:
    assert host.fence().returncode == 0
    assert host.fence().returncode == 0


def test_a_directory_behind_a_link_is_refused(host: Host, tree: Path) -> None:
    (tree.parent / "link").symlink_to(tree)
    for odd in (tree.parent / "link", Path("/"), Path("mounts")):
        assert host.fence(odd).returncode == 1
    assert len(host.mounted()) == 2


def test_a_name_that_begins_alike_is_another(host: Host, tree: Path) -> None:
    other = tree.parent / "mounts2"
    other.mkdir()
    host.run("mount", "--bind", str(tree.parent / "data" / "volume"), str(other))
    stays = host.start("sh", "-c", STAND, str(other))
    time.sleep(0.5)
    host.fence()
    assert str(other) in [mount.path for mount in mountinfo.table(host._pid)]
    assert stays.poll() is None
    stays.kill()
    stays.wait()


def test_a_mount_outlives_another_that_shows_as_much() -> None:
    volume = fence.Mount(8, "/volumes/1", "/mounts/a")
    assert fence.Mount(8, "/volumes/1/sub", "/x").outlives(volume)
    assert fence.Mount(8, "/anything", "/x").outlives(fence.Mount(8, "/", "/mounts/a"))
    assert not fence.Mount(8, "/volumes/12", "/x").outlives(volume)
    assert not fence.Mount(8, "/", "/x").outlives(volume)
    assert not fence.Mount(9, "/volumes/1", "/x").outlives(volume)


def test_volumes_of_one_nfs_server_are_told_apart() -> None:
    line = "59 29 0:41 / /mounts/a rw - nfs4 [fd00::1]:/all{} rw"
    there, one, two = (
        fence._mount(mountinfo.parse(line.format(part)), None)
        for part in ("", "/1/data", "/2/data")
    )
    assert one.outlives(one)
    assert not there.outlives(one)
    assert not two.outlives(one)


def test_what_cant_end_keeps_its_volume_mounted(host: Host, tree: Path) -> None:
    """So that it is found again. Here the one in the way is who runs the command."""
    again = '"$2" -m container_stack.rootwrap.fence "$0"'
    stays = f'cd "$1"; {again}; echo $?; cd /; exec {again}'
    words = (str(tree), str(tree / "volume"), sys.executable)
    done = subprocess.run(
        [*host._words, "sh", "-c", stays, *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "1\n"
    assert f"Still in use: {tree}/volume" in done.stderr
    assert done.returncode == 0
    assert host.mounted() == []
