# SPDX-License-Identifier: Apache-2.0
"""An engine of the demo's own: one that has seen a volume plugin never forgets it.

It lives in a network namespace, for beside another dockerd it would take that one's bridge away,
and in a mount namespace, where it looks for plugins in a directory of ours. It sees what is mounted
on the host all the same.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from container_stack import exceptions
from container_stack.host import containers, images, mounts

#: Where every engine looks.
PLUGINS = "/run/docker/plugins"
#: Seconds in which it must answer, and end.
PATIENCE = 120.0
OPTIONS = ("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false")


class Engine:
    """A dockerd whose files are all in one directory; needs root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.plugins = directory / "plugins"
        self.url = f"unix://{directory}/sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> containers.Engine:
        """Start it, and return it when it answers.

        :raises HostNotReady: dockerd isn't installed, or ends.
        """
        self.plugins.mkdir(parents=True)
        config = self.directory / "daemon.json"
        config.write_text("{}", encoding="utf-8")
        argv = [
            *("unshare", "--net", "--mount", "--propagation", "slave"),
            *(sys.executable, "-m", __name__, str(self.plugins)),
            *("dockerd", *OPTIONS, f"--config-file={config}", f"--host={self.url}"),
            *(
                f"--{name}={self.directory}/{name}"
                for name in ("data-root", "exec-root", "pidfile")
            ),
        ]
        with (self.directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        return self._answering()

    def copy_image(self, source: images.Images, reference: str) -> None:
        """Bring an image of another engine into this one."""
        images.Images(containers.Engine(self.url)).load(source.save([reference]))

    def docker(self, *words: str) -> str:
        """Run a command of Docker's own client, and return what it prints.

        :raises CommandFailed: it fails.
        """
        return run(["docker", "--host", self.url, *words])

    def stop(self) -> None:
        """End it; idempotent."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None
        for mount in reversed(mounts.below(str(self.directory))):
            run(["umount", mount.path])

    def _answering(self) -> containers.Engine:
        assert self._process is not None
        engine = containers.Engine(self.url)
        end = time.monotonic() + PATIENCE
        while True:
            with contextlib.suppress(exceptions.EngineUnavailable):
                engine.version()
                return engine
            if self._process.poll() is not None or time.monotonic() > end:
                words = (self.directory / "log").read_text(encoding="utf-8").splitlines()
                raise exceptions.HostNotReady(
                    f"dockerd doesn't start: {' '.join(words[-1:])[:300]}"
                )
            time.sleep(0.05)


def run(argv: Sequence[str], *, timeout: float = 300.0) -> str:
    """Run a program that must succeed; return what it prints.

    :raises CommandFailed: it fails.
    """
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise exceptions.CommandFailed(argv[0], done.returncode, done.stderr)
    return done.stdout.strip()


def main(argv: Sequence[str]) -> None:
    """Become a dockerd that looks for plugins in a directory: called in its namespaces."""
    run(["ip", "link", "set", "lo", "up"])
    os.makedirs(PLUGINS, exist_ok=True)
    run(["mount", "--bind", argv[0], PLUGINS])
    os.execvp(argv[1], list(argv[1:]))  # noqa: S606 - there is no shell


if __name__ == "__main__":
    main(sys.argv[1:])
