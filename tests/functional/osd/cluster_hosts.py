# SPDX-License-Identifier: Apache-2.0
"""Three hosts as namespaces, each with a member of etcd, a daemon and writers; and a database.

A host has its own network, mounts and processes, and ends as a power cut ends one. The clock and
the kernel are shared, which is what lets a test say who wrote when. Nothing is made in the network
of the machine itself.
"""

import concurrent.futures
import contextlib
import ctypes
import glob
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from container_stack.rootwrap import config
from container_stack.testing import sql_servers

Result = TypeVar("Result")

#: What is shipped: less leaves too little time to a machine as slow as some that test.
LEASE = 30
NET = "10.77.0"
DATABASE = f"{NET}.100"
HERE = Path(__file__).parent
_CLONE_NEWNET = 0x40000000
#: Its address is given, for one that it takes from its ports changes with them.
_BRIDGE = ("br0", "address", "02:00:0a:4d:00:64", "type", "bridge")
#: Where the wall clock of a daemon is made to jump, and nothing else of it.
_FAKETIME = "/usr/lib/*/faketime/libfaketime.so.1"


class Space:
    """Namespaces, which live as long as a process that sleeps in them."""

    def __init__(self, *kinds: str) -> None:
        argv = ["unshare", *kinds, "sh", "-c", "ip link set lo up; echo; exec sleep infinity"]
        self.outer = subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True)
        assert self.outer.stdout is not None
        self.outer.stdout.read(1)
        self.pid = _children(self.outer.pid)[0] if "--fork" in kinds else self.outer.pid
        # Its number may be another's one day, but not this.
        self._handle = os.pidfd_open(self.pid)

    def words(self, *kinds: str) -> list[str]:
        """Return what runs a command inside."""
        return ["nsenter", f"--target={self.pid}", *kinds, "--"]

    def kill(self) -> None:
        """End all that is inside, as kill -9 does; idempotent."""
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, signal.SIGKILL)

    def end(self) -> None:
        """Kill all, and wait until it is gone; whoever entered it has been waited for."""
        self.kill()
        self.outer.wait(30)


class Daemon:
    """A daemon on a host: :mod:`tests.functional.osd.cluster_node`."""

    def __init__(self, argv: Sequence[str], order: dict[str, Any], log: Path) -> None:
        environment = dict(os.environ)
        if order.get("faketime"):
            environment |= {
                "LD_PRELOAD": glob.glob(_FAKETIME)[0],
                "FAKETIME_TIMESTAMP_FILE": order["faketime"],
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [*argv, sys.executable, str(HERE / "cluster_node.py"), json.dumps(order)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=environment,
                start_new_session=True,
            )
        self._lock = threading.Lock()
        self._read()
        # nsenter has it as its child.
        self.pid = _children(self._process.pid)[0]
        self._handle = os.pidfd_open(self.pid)

    def ask(self, do: str, *words: str) -> Any:
        """Ask it for something, and return the answer.

        :raises Refused: it refused.
        """
        with self._lock:
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps([do, *words]).encode() + b"\n")
                self._process.stdin.flush()
            except BrokenPipeError as exc:
                raise Refused("the daemon has ended", "EOFError") from exc
            answer = self._read()
        if "error" in answer:
            raise Refused(answer["error"], answer["kind"])
        return answer["result"]

    def signal(self, number: int) -> None:
        """Send it, and only it, a signal."""
        signal.pidfd_send_signal(self._handle, number)

    @property
    def lives(self) -> bool:
        # nsenter stops with it, and doesn't see its end then.
        return not select.select([self._handle], [], [], 0)[0]

    def end(self) -> None:
        """Kill it; idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGKILL)
        self._process.kill()
        self._process.wait(20)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Refused("the daemon has ended", "EOFError")
        found: dict[str, Any] = json.loads(line)
        return found


class Refused(Exception):
    """What a daemon answered; ``kind`` is the error's class."""

    def __init__(self, text: str, kind: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind = kind


class Writer:
    """A process that writes lines, each onto the disk, and says so."""

    def __init__(self, argv: Sequence[str], name: str, directory: Path, inside: str) -> None:
        self.name = name
        self._acks = directory / f"{name}.acks"
        with self._acks.open("wb") as output:
            self._process = subprocess.Popen(
                [*argv, sys.executable, str(HERE / "cluster_writer.py"), name, inside],
                stdin=subprocess.DEVNULL,
                stdout=output,
                start_new_session=True,
            )

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def acknowledged(self) -> list[str]:
        return self._acks.read_text().splitlines()

    def end(self) -> None:
        """End it; idempotent."""
        if self.lives:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(20)


class Host:
    """One host."""

    def __init__(self, world: "World", number: int) -> None:
        self.number = number
        self.name = f"host{number}"
        self.address = f"{NET}.{number}"
        self.directory = world.directory / self.name
        self.directory.mkdir(exist_ok=True)
        self._world = world
        self.etcd: subprocess.Popen[bytes] | None = None
        self.daemon: Daemon | None = None
        self.writers: list[Writer] = []
        self.boot()

    def boot(self) -> None:
        """Start the host, with its etcd; its disk is what it was."""
        self.space = Space(
            *("--net", "--mount", "--pid", "--fork", "--mount-proc", "--propagation=private")
        )
        inside = self.space.words("--net")
        switch = self._world.switch
        port = ("link", "add", f"v{self.number}", "type", "veth")
        _run(*switch.words("--net"), "ip", *port, "peer", "name", "eth0", "netns", self._pid)
        self.plug(up=True, first=True)
        _run(*inside, "ip", "address", "add", f"{self.address}/24", "dev", "eth0")
        _run(*inside, "ip", "link", "set", "eth0", "up")
        self._start_etcd()

    @property
    def _pid(self) -> str:
        return str(self.space.pid)

    def words(self) -> list[str]:
        return self.space.words("--net", "--mount", "--pid")

    def plug(self, *, up: bool, first: bool = False) -> None:
        """Connect it with the others, or take it off the network."""
        inside = self._world.switch.words("--net")
        if first:
            _run(*inside, "ip", "link", "set", f"v{self.number}", "master", "br0")
        _run(*inside, "ip", "link", "set", f"v{self.number}", "up" if up else "down")

    def drop(self, *, port: int, insert: bool) -> None:
        """Drop what goes from here to a port of others, or no more."""
        rule = ("OUTPUT", "-p", "tcp", "--dport", str(port), "-j", "DROP")
        action = "-I" if insert else "-D"
        _run(*self.space.words("--net"), "iptables", "-w", action, *rule)

    def start(self, **more: Any) -> Daemon:
        """Start the daemon."""
        state = self.directory / "osd"
        etc = self.directory / "etc"
        state.mkdir(exist_ok=True)
        scripts = str(Path(sys.executable).parent)
        config.install(etc, ["osd"], str(state), scripts)
        servers = ",".join(f"{NET}.{number}:2379" for number in (1, 2, 3))
        helper = [sys.executable, "-m", "container_stack.rootwrap.cmd", f"{etc}/rootwrap.conf"]
        order = {
            "node": self.name,
            "state_dir": str(state),
            "helper": helper,
            "registry": self._world.registry,
            "coordination": f"etcd3+http://{servers}",
            "lease": LEASE,
            "shared": str(self._world.shared),
            **more,
        }
        self.daemon = Daemon(self.words(), order, self.directory / "daemon.log")
        return self.daemon

    def write(self, path: str, *, contained: bool) -> Writer:
        """Start a writer in a volume that is mounted here.

        :param contained: with mounts of its own, as a container has.
        """
        argv = self.words()
        if contained:
            bind = 'mount --bind "$0" /mnt && exec "$@"'
            argv += ["unshare", "--mount", "--propagation=private", "sh", "-c", bind, path]
            path = "/mnt"
        writer = Writer(argv, f"{self.name}-{len(self._world.writers)}", self._world.acks, path)
        self._world.writers.append(writer)
        self.writers.append(writer)
        return writer

    def processes(self, part: str) -> list[int]:
        """Return the processes of this host with a text in their command line."""
        space = os.readlink(f"/proc/{self.space.pid}/ns/pid")
        found = []
        for each in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{each}/cmdline").read_bytes().replace(b"\0", b" ").decode()
                if os.readlink(f"/proc/{each}/ns/pid") == space and part in line:
                    found.append(int(each))
        return found

    def mounts(self) -> list[str]:
        """Return what is mounted below the daemon's directory."""
        lines = Path(f"/proc/{self.space.pid}/mountinfo").read_text().splitlines()
        paths = [line.split(" ")[4] for line in lines]
        return [path for path in paths if path.startswith(f"{self.directory}/osd/mounts/")]

    def cut_power(self) -> None:
        """End everything on it at once; idempotent."""
        self.space.kill()
        # What somebody outside is the parent of keeps the rest from going until he has gone.
        for writer in self.writers:
            writer.end()
        if self.daemon is not None:
            self.daemon.end()
        if self.etcd is not None:
            self.etcd.kill()
            self.etcd.wait(30)
        self.daemon = self.etcd = None
        self.space.end()
        # The kernel takes its time with what a network consisted of.
        switch = self._world.switch.words("--net")
        gone = [*switch, "ip", "link", "delete", f"v{self.number}"]
        subprocess.run(gone, capture_output=True, check=False)

    def _start_etcd(self) -> None:
        def url(number: int, port: int) -> str:
            return f"http://{NET}.{number}:{port}"

        data = self._world.fast / self.name
        clients, peers = url(self.number, 2379), url(self.number, 2380)
        members = ",".join(f"host{each}={url(each, 2380)}" for each in (1, 2, 3))
        command = [
            *("etcd", "--name", self.name, "--data-dir", str(data)),
            *("--listen-client-urls", clients, "--advertise-client-urls", clients),
            *("--listen-peer-urls", peers, "--initial-advertise-peer-urls", peers),
            *("--initial-cluster", members, "--initial-cluster-token", "cstest"),
        ]
        with (self.directory / "etcd.log").open("ab") as log:
            self.etcd = subprocess.Popen(
                [*self.space.words("--net", "--pid"), *command],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


class World:
    """Three hosts, a database and volumes that all hosts reach."""

    def __init__(self, directory: Path, fast: Path) -> None:
        self.directory = directory
        #: In memory: nobody here has a disk of his own, and etcd waits for the disk at each step.
        self.fast = fast
        self.shared = directory / "shared"
        self.acks = directory / "acks"
        for each in (self.shared, self.acks):
            each.mkdir()
        self.writers: list[Writer] = []
        self.switch = Space("--net")
        inside = self.switch.words("--net")
        _run(*inside, "ip", "link", "add", *_BRIDGE)
        _run(*inside, "ip", "address", "add", f"{DATABASE}/24", "dev", "br0")
        _run(*inside, "ip", "link", "set", "br0", "up")
        # What is asked, or started, in this thread is in the hosts' network.
        self._thread = concurrent.futures.ThreadPoolExecutor(1, initializer=self._enter)
        self._undo = contextlib.ExitStack()
        self.hosts: list[Host] = []

    def start(self) -> None:
        """Start the database and the hosts."""
        self.database = self.inside(
            lambda: self._undo.enter_context(sql_servers.running("mariadb", DATABASE))
        )
        self.registry: str = self.inside(self.database.database)
        for number in (1, 2, 3):
            self.hosts.append(Host(self, number))
        eventually(self.quorate, 60)

    def inside(self, action: Callable[[], Result]) -> Result:
        """Do something in the hosts' network."""
        return self._thread.submit(action).result()

    def _enter(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/proc/{self.switch.pid}/ns/net") as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def quorate(self) -> bool:
        """Tell whether etcd has a leader."""
        return self.leader() is not None

    def leader(self) -> Host | None:
        """Return the host whose etcd leads."""
        for host in self.hosts:
            with contextlib.suppress(OSError, KeyError):
                status = self.inside(lambda host=host: _status(host.address))
                if status["leader"] == status["header"]["member_id"]:
                    return host
        return None

    def end(self) -> None:
        """End all, and leave nothing."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.switch.end)
            undo.callback(self._thread.shutdown)
            undo.callback(self.inside, self._undo.close)
            for host in self.hosts:
                undo.callback(host.cut_power)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[World]:
    """Run the world as long as the context lasts."""
    fast = Path(tempfile.mkdtemp(prefix="cstest-etcd-", dir="/dev/shm"))
    try:
        world = World(directory, fast)
        try:
            world.start()
            yield world
        finally:
            world.end()
    finally:
        shutil.rmtree(fast)


def _status(address: str) -> dict[str, Any]:
    url = f"http://{address}:2379/v3/maintenance/status"
    with urllib.request.urlopen(url, data=b"{}", timeout=2) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def eventually(true: Callable[[], object], seconds: float = 60.0) -> float:
    """Return when something is true, with the seconds that it took."""
    begun = time.monotonic()
    while not true():
        assert time.monotonic() < begun + seconds, f"{true} isn't so after {seconds} s"
        time.sleep(0.1)
    return time.monotonic() - begun


def _children(pid: int) -> list[int]:
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, capture_output=True, timeout=60)
