# SPDX-License-Identifier: Apache-2.0
"""A share server without an engine, and the kernel's clients at links of their own.

The server is what the image holds, made of this machine's packages, with namespaces of processes,
mounts and network of its own.
"""

import contextlib
import os
import shutil
import subprocess
import tarfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from container_stack.host import containers
from container_stack.shares import container, image

#: Bytes that a share's volume has.
SIZE = 32 * 1024**2
#: The two clients' networks; the server is .1 there, and the client .2.
NETS = ("10.231.78", "10.231.79")
NETS6 = ("fd00:231:78:", "fd00:231:79:")
_SERVER = "cstest-shares"
#: Linux 6.19 and later ask for them by a word that Ganesha 4 takes for nonsense, and then tell of
#: remote I/O errors: https://github.com/nfs-ganesha/nfs-ganesha/issues/1385
DIRECTORY_DELEGATIONS = Path("/sys/module/nfsv4/parameters/directory_delegations")

# What engines do for a container.
_START = """
set -e
root=$1
shift
mount -t proc proc $root/proc
mount --rbind /dev $root/dev
[ -e $root/dev/stdin ] || ln -s /proc/self/fd/0 $root/dev/stdin
mount -t tmpfs -o mode=755 run $root/run
ln -sf /proc/mounts $root/etc/mtab
exec chroot $root /usr/bin/tini -g -- /usr/libexec/share-server "$@"
"""


def make_root(directory: Path) -> None:
    """Unpack there what the image would hold."""
    archive = directory.with_suffix(".tar")
    with packages(directory.parent) as found, archive.open("w+b") as file:
        image.write(file, found)
        file.seek(0)
        with tarfile.open(fileobj=file) as tar:
            # It is our own; Pythons before 3.11.4 ask for no filter.
            tar.extraction_filter = lambda member, path: member
            tar.extractall(directory)
    archive.unlink()


@contextlib.contextmanager
def packages(directory: Path) -> Iterator[Path]:
    """Lend this machine's packages, in a root of their own with links that stay in it."""
    found, above, work = (directory / name for name in ("packages", "above", "work"))
    for each in (found, above, work):
        each.mkdir()
    layers = f"lowerdir=/,upperdir={above},workdir={work}"
    run("mount", "-t", "overlay", "-o", layers, "packages", found)
    try:
        for loader in found.glob("usr/lib64/ld-linux*"):
            target = os.readlink(loader)
            loader.unlink()
            loader.symlink_to(f"..{target}")
        yield found
    finally:
        run("umount", found)


class Server:
    """One share server; it takes the place of the engine for the protocols, too.

    :param root: what :func:`make_root` made; its accounts, keys and shares live there.
    """

    def __init__(self, root: Path, *words: str) -> None:
        self.root = root
        self._words = words
        self._process: subprocess.Popen[bytes] | None = None
        self.shares = root / "shares"
        self._images = root.parent / "images"
        self._images.mkdir()
        run("mount", "--bind", self.shares, self.shares)
        run("mount", "--make-rshared", self.shares)
        run("ip", "netns", "add", _SERVER)
        within(_SERVER, "ip", "link", "set", "lo", "up")
        for name, value in container.SYSCTLS.items():
            within(_SERVER, "sysctl", "-q", f"{name}={value}")

    def start(self) -> None:
        """Start what runs in the container."""
        space = ("nsenter", f"--net=/run/netns/{_SERVER}")
        own = ("unshare", "--mount", "--propagation=slave", "--pid", "--fork", "--kill-child")
        first = ("sh", "-c", _START, "sh", str(self.root), *self._words)
        with (self.root.parent / "log").open("ab") as log:
            self._process = subprocess.Popen([*space, *own, *first], stdout=log, stderr=log)
        until(lambda: self._child() and "tini" in self._proc(self._child(), "comm"))

    def stop(self, *, kill: bool) -> None:
        """Stop it, in order or at once."""
        if self._process is None:
            return
        if not kill:
            run("kill", "-TERM", self._child())
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        self._process.kill()
        self._process.wait(30)
        self._process = None

    def exec(
        self, container_id: str, argv: Sequence[str], *, stdin: bytes = b"", timeout: float = 60.0
    ) -> containers.ExecResult:
        """Run something beside it, as the engine does."""
        enter = ("nsenter", f"--target={self._child()}", "--mount", "--pid", "--net", "--root")
        done = subprocess.run(
            [*enter, "--wd=/", "--", *argv],
            input=stdin, capture_output=True, timeout=timeout, check=False,
            env={"PATH": "/usr/sbin:/usr/bin"},
        )  # fmt: skip
        return containers.ExecResult(done.returncode, done.stdout, done.stderr)

    def said(self, *argv: str) -> str:
        """Run something beside it, and return what it printed, whether it failed or not."""
        return self.exec("", argv).stdout.decode()

    def mount(self, share: str) -> None:
        """Mount a share's volume where the server sees it; make it, if it is new."""
        file, point = self._images / share, self.shares / share
        if not file.exists():
            with file.open("wb") as disk:
                disk.truncate(SIZE)
            run("mkfs.ext4", "-q", "-O", "^has_journal", file)
            point.mkdir()
        run("mount", "-o", "loop,nosuid,nodev,noexec", file, point)

    def grow(self, share: str, size: int) -> None:
        """Let a share's volume have so many bytes, while it is in use."""
        os.truncate(self._images / share, size)
        device = run("findmnt", "--noheadings", "--output=SOURCE", self.shares / share).strip()
        run("losetup", "--set-capacity", device)
        run("resize2fs", device)

    def unmount(self, share: str) -> None:
        """Unmount it at once."""
        run("umount", self.shares / share)

    def close(self) -> None:
        """Take it all away."""
        self.stop(kill=True)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            if line.split()[4].startswith(str(self.shares)):
                run("umount", line.split()[4])
        run("ip", "netns", "delete", _SERVER)

    def _child(self) -> str:
        assert self._process is not None
        assert self._process.poll() is None, (self.root.parent / "log").read_text()[-3000:]
        pid = self._process.pid
        return self._proc(str(pid), f"task/{pid}/children").split(" ")[0]

    @staticmethod
    def _proc(pid: str, name: str) -> str:
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/{name}").read_text()
        return ""


class Machine:
    """A client: the kernel's, in a network namespace and of a name of its own.

    :param number: 0 or 1, in :data:`NETS`.
    """

    def __init__(self, number: int, directory: Path) -> None:
        self.number = number
        self._space, self._link = f"cstest-client{number}", f"cstest-c{number}"
        self._directory = directory
        run("ip", "netns", "add", self._space)
        run("ip", "link", "add", self._link, "netns", _SERVER, "type", "veth",
            "peer", "name", "eth0", "netns", self._space)  # fmt: skip
        for space, link, last in ((_SERVER, self._link, 1), (self._space, "eth0", 2)):
            for address in (f"{NETS[number]}.{last}/24", f"{NETS6[number]}:{last}/64"):
                flag = ("nodad",) if ":" in address else ()
                within(space, "ip", "address", "add", address, "dev", link, *flag)
            within(space, "ip", "link", "set", link, "up")

    def mount(self, share: str, options: str, *, address: str | None = None) -> Path:
        """Mount a share by NFS.

        :raises OSError: the server refused.
        """
        source = f"{address or f'{NETS[self.number]}.1'}:/{share}"
        return self._mount("nfs", source, f"{options},retry=0")

    def mount_cifs(self, share: str, options: str) -> Path:
        """Mount a share by CIFS, without the help of a program that is the kernel's client's own.

        :param options: the user's name and password among them.
        :raises OSError: the server refused.
        """
        server = f"{NETS[self.number]}.1"
        return self._mount("cifs", f"//{server}/{share}", f"ip={server},{options}", "-i")

    def _mount(self, kind: str, source: str, options: str, *words: str) -> Path:
        point = self._directory / uuid.uuid4().hex[:8]
        point.mkdir()
        # The server knows clients by their machines' names.
        name = f'hostname client{self.number}; exec mount "$@"'
        shell = ("unshare", "--uts", "sh", "-c", name, "sh")
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self._space}", *shell,
             *words, "-t", kind, "-o", options, source, point],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        if done.returncode:
            point.rmdir()
            raise OSError(done.stderr)
        return point

    @staticmethod
    def unmount(point: Path) -> None:
        """Unmount it, whether the server answers or not."""
        if subprocess.run(["umount", point], capture_output=True, check=False).returncode:
            run("umount", "--force", "--lazy", point)
        point.rmdir()

    def cut(self) -> None:
        """Lose all that goes between it and the server."""
        within(_SERVER, "ip", "link", "set", self._link, "down")

    def join(self) -> None:
        """End a cut."""
        within(_SERVER, "ip", "link", "set", self._link, "up")
        address = f"{NETS6[self.number]}:1/64"
        within(_SERVER, "ip", "address", "replace", address, "dev", self._link, "nodad")

    def close(self) -> None:
        run("ip", "netns", "delete", self._space)


@contextlib.contextmanager
def world(directory: Path, minors: str) -> Iterator[tuple[Server, tuple[Machine, Machine]]]:
    """Have a server with both protocols, not yet started, and two clients.

    :param minors: the versions of NFS that it speaks, such as ``1,2``.
    """
    for module in ("nfs", "nfsv4", "cifs", "veth", "loop"):
        run("modprobe", module)
    if DIRECTORY_DELEGATIONS.exists():
        DIRECTORY_DELEGATIONS.write_text("N")
    root = directory / "root"
    with contextlib.ExitStack() as undo:
        # A guest's files are in its memory.
        undo.callback(shutil.rmtree, directory)
        make_root(root)
        server = Server(root, "start", "nfs", minors, "none")
        undo.callback(server.close)
        clients = directory / "clients"
        clients.mkdir()
        machines = (Machine(0, clients), Machine(1, clients))
        for each in machines:
            undo.callback(each.close)
        yield server, machines


def until(probe: Callable[[], object], seconds: float = 120.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not probe():
        assert time.monotonic() < end, "It takes too long"
        time.sleep(0.05)


def within(space: str, *words: str) -> None:
    run("nsenter", f"--net=/run/netns/{space}", *words)


def run(*words: str | Path) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"
    return done.stdout
