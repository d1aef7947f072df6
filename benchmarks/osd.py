# SPDX-License-Identifier: Apache-2.0
"""The Open Storage daemon as a process, over btrfs in a file, and clients of its sockets."""

import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml

from container_stack.rootwrap import config
from container_stack.testing import btrfs_disk

#: Bytes of the disk, of which a file has nothing until they are written.
DISK = 64 * 1024**3
_PROGRAM = "import sys; from container_stack.cmd.osd import main; sys.exit(main.main())"


class Client:
    """A connection to a unix socket on which requests follow each other."""

    def __init__(self, path: str | Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(120)
        self._socket.connect(str(path))
        self._rest = b""

    def close(self) -> None:
        """Let go of it."""
        self._socket.close()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Return an answer's JSON."""
        return json.loads(self.raw(self.request(method, path, body)))

    @staticmethod
    def request(method: str, path: str, body: object = None) -> bytes:
        """Return a request as it is sent."""
        data = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: osd\r\nContent-Length: {len(data)}\r\n\r\n"
        return head.encode() + data

    def again(self, request: bytes, answer: bytes) -> bool:
        """Ask what was asked before, and tell whether the body is the same.

        As little is done as can be, because clients share the machine with the daemon.
        """
        self._socket.sendall(request)
        data = self._socket.recv(1 << 16)
        while not data.endswith(answer):
            more = self._socket.recv(1 << 16)
            if not more:
                return False
            data += more
        return True

    def raw(self, request: bytes) -> bytes:
        """Return the body of an answer."""
        self._socket.sendall(request)
        data = self._rest
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        if not lines[0].startswith(b"http/1.1 200"):
            raise RuntimeError(f"{lines[0].decode()}: {body[:500].decode()}")
        [length] = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        parts = [body]
        while (missing := length - sum(map(len, parts))) > 0:
            parts.append(self._more())
        body = b"".join(parts)
        self._rest = body[len(body) + min(missing, 0) :] if missing < 0 else b""
        return body[:length]

    def _more(self) -> bytes:
        data = self._socket.recv(1 << 20)
        if not data:
            raise RuntimeError("The daemon has gone.")
        return data


class Plugin(Client):
    """What Docker says to a volume plugin."""

    def ask(self, what: str, name: str = "", **fields: object) -> Any:
        """Return an answer.

        :raises RuntimeError: it is an error.
        """
        answer = self.call("POST", f"/VolumeDriver.{what}", {"Name": name, **fields})
        if answer.get("Err"):
            raise RuntimeError(answer["Err"])
        return answer


@dataclasses.dataclass
class Daemon:
    """A daemon with one driver, btrfs; it may be killed and started again."""

    directory: Path
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def state_dir(self) -> Path:
        """Its state directory."""
        return self.directory / "state"

    @property
    def helper(self) -> list[str]:
        """What starts its root helper."""
        config_file = self.directory / "rootwrap" / "rootwrap.conf"
        return [sys.executable, "-m", "container_stack.rootwrap.cmd", str(config_file)]

    @property
    def disk(self) -> Path:
        """Where its subvolumes are."""
        return self.state_dir / "backends" / "btrfs"

    @property
    def rest(self) -> Path:
        """Its REST socket."""
        return self.state_dir / "driver" / "btrfs.sock"

    @property
    def plugin(self) -> Path:
        """Its socket for Docker."""
        return self.directory / "plugins" / "btrfs.sock"

    def start(self) -> float:
        """Start it, and return the seconds until it answered."""
        start = time.monotonic()
        command = [sys.executable, "-c", _PROGRAM, "-d", "-f", str(self.directory / "osd.yaml")]
        with open(self.directory / "daemon.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        while True:
            try:
                plugin = Plugin(self.plugin)
                plugin.ask("Capabilities")
                plugin.close()
                return time.monotonic() - start
            except OSError:
                if self.process.poll() is not None or time.monotonic() - start > 120:
                    raise RuntimeError(self.log()[-3000:]) from None
                time.sleep(0.01)

    def log(self) -> str:
        """Return what it said."""
        return (self.directory / "daemon.log").read_text(errors="replace")

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it by a signal; what is mounted stays so."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def clear(self) -> None:
        """Unmount what is left."""
        prefix = f"{self.state_dir}/mounts/"
        with open("/proc/self/mounts", encoding="utf-8") as table:
            there = [line.split()[1] for line in table]
        left = [path for path in there if path.startswith(prefix)]
        for start in range(0, len(left), 100):
            subprocess.run(["umount", *left[start : start + 100]], check=False)


@contextlib.contextmanager
def daemon() -> Iterator[Daemon]:
    """Run a daemon for a while."""
    with tempfile.TemporaryDirectory(prefix="cstest-bench-", dir="/var/tmp") as text:
        made = Daemon(Path(text))
        made.state_dir.mkdir()
        config.install(made.directory / "rootwrap", ["osd"], str(made.state_dir))
        settings = {
            "drivers": {"btrfs": None},
            "state_dir": str(made.state_dir),
            "plugin_dir": str(made.directory / "plugins"),
            "root_helper": " ".join(made.helper),
            "log_level": "warning",
        }
        (made.directory / "osd.yaml").write_text(yaml.safe_dump({"osd": settings}))
        (made.state_dir / "backends").mkdir()
        with btrfs_disk.mounted(made.disk, size=DISK):
            try:
                made.start()
                yield made
            finally:
                made.end()
                made.clear()


def clients(count: int, path: str | Path, each: Callable[[Client, int], int]) -> tuple[int, float]:
    """Let clients work in processes of their own; return how much they did, and the seconds.

    :param each: is given a connection and the client's number, and returns what it did.
    """
    ready, done = os.pipe(), os.pipe()
    go_read, go_write = os.pipe()
    pids = []
    for number in range(count):
        pid = os.fork()
        if pid:
            pids.append(pid)
            continue
        code = 1
        try:
            client = Client(path)
            os.write(ready[1], b"x")
            os.read(go_read, 1)
            os.write(done[1], each(client, number).to_bytes(8, "little"))
            code = 0
        finally:
            os._exit(code)
    for _ in pids:
        os.read(ready[0], 1)
    start = time.perf_counter()
    os.write(go_write, b"x" * count)
    total = sum(int.from_bytes(os.read(done[0], 8), "little") for _ in pids)
    seconds = time.perf_counter() - start
    for pid in pids:
        os.waitpid(pid, 0)
    for fd in (*ready, *done, go_read, go_write):
        os.close(fd)
    return total, seconds
