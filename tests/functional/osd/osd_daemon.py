# SPDX-License-Identifier: Apache-2.0
"""The real daemon as a process, with everything that it has in one directory."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from container_stack.host import mounts
from container_stack.rootwrap import config

from . import osd_backends

OSD = str(Path(sys.executable).with_name("osd"))
PATIENCE = 120.0


class Daemon:
    """One daemon, and its command line.

    :param drivers: as its file has them.
    :param options: more of its file.
    :param within: words that run the command after them, somewhere else or as somebody else.
    """

    def __init__(
        self,
        directory: Path,
        drivers: Mapping[str, Mapping[str, str] | None],
        *,
        within: Sequence[str] = (),
        **options: Any,
    ) -> None:
        self.directory = directory
        self.state_dir = Path(options.get("state_dir", directory / "state"))
        self.plugin_dir = directory / "plugins"
        self.config = directory / "osd.yaml"
        self._within = list(within)
        self._python = osd_backends.register(directory / "site")
        self.configure(drivers, **options)
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, drivers: Mapping[str, Mapping[str, str] | None], **options: Any) -> None:
        """Write its file."""
        values = {
            "state_dir": str(self.state_dir),
            "plugin_dir": str(self.plugin_dir),
            "drivers": dict(drivers),
            **options,
        }
        self.config.write_text(yaml.safe_dump({"osd": values}), encoding="utf-8")

    @property
    def environment(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        return {
            **os.environ,
            "PATH": path,
            "PYTHONPATH": self._python,
            "OSD_STATE_DIR": str(self.state_dir),
        }

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *before: str) -> "Daemon":
        """Start it, and wait until it serves.

        :param before: words that run the command after them.
        """
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._within, *before, OSD, "-d", "-f", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
                start_new_session=True,
            )
        end = time.monotonic() + PATIENCE
        told = self.log.count("Serving ")
        while self.log.count("Serving ") == told:
            assert self._process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)
        return self

    def refused(self, *before: str) -> str:
        """Start it, and return what it says as it ends at once."""
        ended = subprocess.run(
            [*self._within, *before, OSD, "-d", "-f", str(self.config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=PATIENCE,
            check=False,
        )
        assert ended.returncode == 1, ended
        assert "Traceback" not in ended.stderr
        return ended.stderr

    def stop(self) -> int:
        """End it as a service manager does; return the exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as a crash does."""
        self._end(signal.SIGKILL)

    def _end(self, number: signal.Signals) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        process.send_signal(number)
        return process.wait(PATIENCE)

    def cli(self, *words: str, input_: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line."""
        return subprocess.run(
            [*self._within, OSD, *words],
            input=input_,
            stdin=subprocess.DEVNULL if input_ is None else None,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=PATIENCE,
            check=False,
        )

    def run(self, *words: str) -> str:
        """Run a command that must succeed; return what it prints, without the line's end."""
        done = self.cli(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr, self.log)
        return done.stdout.rstrip("\n")

    def json(self, *words: str) -> Any:
        """Run a command that must succeed and prints JSON."""
        return json.loads(self.run("--json", *words))

    def failed(self, *words: str) -> str:
        """Run a command that must fail; return what it prints to standard error."""
        done = self.cli(*words)
        assert done.returncode == 1, (words, done.stdout)
        assert "Traceback" not in done.stderr
        return done.stderr.rstrip("\n")


@contextlib.contextmanager
def daemon(directory: Path, *args: Any, **options: Any) -> Iterator[Daemon]:
    """Lend a daemon that isn't started yet, and clean up after it."""
    made = Daemon(directory, *args, **options)
    try:
        yield made
    finally:
        made.kill()
        for mount in reversed(mounts.below(str(made.state_dir))):
            subprocess.run(["umount", mount.path], check=False)
        _detach(str(made.state_dir))


def helper(directory: Path, state_dir: Path, scripts: Path) -> str:
    """Install the shipped filters for a state directory; return the root helper for root."""
    config.write(
        {
            directory / name: text
            for name, text in config.texts(
                str(directory), ["osd"], str(state_dir), str(scripts)
            ).items()
        }
    )
    return f"{scripts}/container-stack-rootwrap-daemon {directory}/rootwrap.conf"


def _detach(state_dir: str) -> None:
    for record in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            if record.read_text(encoding="utf-8").startswith(f"{state_dir}/"):
                subprocess.run(["losetup", "-d", f"/dev/{record.parts[3]}"], check=False)
