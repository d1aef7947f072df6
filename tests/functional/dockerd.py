# SPDX-License-Identifier: Apache-2.0
"""An engine of a test's own, which may be stopped, frozen and killed.

It lives in a network namespace of its own: beside another dockerd it would take that one's
bridge away.
"""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

from container_stack import exceptions
from container_stack.host import containers

OPTIONS = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")
START = 'ip link set lo up && exec "$@"'
#: Ids of nobody on this host, which an engine may give to its containers.
IDS = "700000000-700065535"


class Dockerd:
    """A dockerd with its data in a directory; the data outlives it.

    :param within: a command that runs the command after it, somewhere else.
    """

    def __init__(
        self, directory: Path, options: Sequence[str] = (), within: Sequence[str] = ()
    ) -> None:
        self.url = f"unix://{directory}/sock"
        self._directory = directory
        self._argv = [
            *("unshare", "--net", "sh", "-c", START, "sh", *within, "dockerd", *OPTIONS),
            *(f"--host={self.url}", f"--data-root={directory}/data"),
            *(f"--exec-root={directory}/exec", f"--pidfile={directory}/pid", *options),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._stopped = False
        # A crash leaves these; the numbers may belong to a zombie or to somebody else by now.
        for leftover in ("pid", "exec/containerd/containerd.pid"):
            (self._directory / leftover).unlink(missing_ok=True)
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._await_answer()

    def kill(self) -> None:
        """End it as a crash would; its containers run on."""
        os.kill(self.pid, signal.SIGKILL)
        assert self._process is not None
        self._process.wait(10)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> None:
        """Remove its containers and end it; idempotent."""
        if self._stopped:
            return
        self._stopped = True
        assert self._process is not None
        if self._process.poll() is not None:
            self.start()
            self._stopped = True
        self.thaw()
        engine = containers.Engine(self.url)
        for container in engine.list():
            engine.remove(container.id)
        engine.close()
        self._process.terminate()
        self._process.wait(30)
        # A dockerd that was killed has left its data mounted over itself.
        data = f"{self._directory}/data"
        while f" {data} " in Path("/proc/self/mountinfo").read_text():
            subprocess.run(["umount", data], check=True)

    def _await_answer(self) -> None:
        engine = containers.Engine(self.url, timeout=5)
        deadline = time.monotonic() + 60
        while True:
            try:
                engine.version()
                return
            except exceptions.EngineUnavailable:
                assert self._process is not None
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)


@contextlib.contextmanager
def remapped_user() -> Iterator[str]:
    """Make a user for whom an engine remaps those of its containers, and remove him."""
    name = f"cstest{uuid.uuid4().hex[:8]}"
    subprocess.run(["useradd", "--system", "--no-create-home", name], check=True)
    try:
        words = ["usermod", f"--add-subuids={IDS}", f"--add-subgids={IDS}", name]
        subprocess.run(words, check=True)
        yield name
    finally:
        subprocess.run(["userdel", name], check=True)
