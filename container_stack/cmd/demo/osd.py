# SPDX-License-Identifier: Apache-2.0
"""The demo of Open Storage: a volume of the daemon's goes through containers of a real engine."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from container_stack import exceptions
from container_stack.cmd.demo import command, host, osd_engine, steps
from container_stack.cmd.osd import client
from container_stack.host import containers, images, mounts
from container_stack.rootwrap import config

MIB = 1024**2
CONF_FILE = """\
osd:
  state_dir: {state_dir}
  plugin_dir: {plugin_dir}
  docker_url: {docker_url}
  root_helper: {root_helper}
  drivers:
    loop:
"""


class Walk:
    """One volume of the driver loop."""

    def __init__(self, options: command.Options, steps: steps.Steps) -> None:
        self.steps = steps
        self._options = options
        self._top = Path()
        self._daemon: subprocess.Popen[bytes] | None = None

    def there(self, undo: contextlib.ExitStack) -> None:
        """Create a volume with Docker, snapshot, clone and grow it; lose the daemon meanwhile."""
        self._top = Path(tempfile.mkdtemp(prefix="container-stack-demo-"))
        undo.callback(shutil.rmtree, self._top, ignore_errors=True)
        state = self._top / "state"
        undo.callback(self._look_for_leftovers, state)
        self._engine = self._start_engine(state, undo)
        undo.callback(self._stop_daemon, signal.SIGTERM)
        self._configure(state)
        self._start_daemon("The daemon starts, with the driver loop")
        self._create(undo)
        self._write()
        self._snapshot(undo)
        self._clone(undo)
        self._grow()
        self._lose_the_daemon()
        if self._options.keep:
            self.steps.wait(
                f"export DOCKER_HOST={self._engine.url} OSD_STATE_DIR={state}; osd loop list"
            )

    def _share_mounts(self, state: Path, undo: contextlib.ExitStack) -> None:
        """As on every host with systemd: the engine sees what is mounted."""
        if os.geteuid() != 0:
            raise exceptions.HostNotReady(
                "The demo of Open Storage starts an engine of its own: run it as root."
            )
        state.mkdir()
        osd_engine.run(["mount", "--bind", str(state), str(state)])
        undo.callback(osd_engine.run, ["umount", str(state)])
        osd_engine.run(["mount", "--make-shared", str(state)])

    def _start_engine(self, state: Path, undo: contextlib.ExitStack) -> osd_engine.Engine:
        with self.steps.step("An engine of its own starts") as step:
            self._share_mounts(state, undo)
            source = images.Images(containers.Engine(self._options.docker_url))
            host.ensure_image(source, self._options.image, self.steps.stream)
            made = osd_engine.Engine(self._top / "engine")
            undo.callback(made.stop)
            version = made.start().version()
            made.copy_image(source, self._options.image)
            step.detail = f"Docker {version['Version']}, with {self._options.image}"
        return made

    def _configure(self, state: Path) -> None:
        scripts = Path(sys.executable).parent
        etc = self._top / "etc"
        texts = config.texts(str(etc), ["osd"], str(state), str(scripts))
        config.write({etc / name: text for name, text in texts.items()})
        helper = f"{sys.executable} -m container_stack.rootwrap.cmd {etc}/rootwrap.conf"
        (self._top / "osd.yaml").write_text(
            CONF_FILE.format(
                state_dir=state,
                plugin_dir=self._engine.plugins,
                docker_url=self._engine.url,
                root_helper=helper,
            ),
            encoding="utf-8",
        )

    def _start_daemon(self, title: str) -> None:
        with self.steps.step(title) as step:
            with (self._top / "log").open("ab") as log:
                self._daemon = subprocess.Popen(
                    [*_osd(), "-d", "-f", str(self._top / "osd.yaml")],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            try:
                client.wait_for(self._socket("cluster/osd.sock"), self._daemon.poll)
            except exceptions.ServiceUnavailable as exc:
                words = (self._top / "log").read_text(encoding="utf-8").splitlines()
                raise exceptions.HostNotReady(" ".join(words[-1:]) or str(exc)) from exc
            step.detail = f"process {self._daemon.pid}"

    def _create(self, undo: contextlib.ExitStack) -> None:
        with self.steps.step("docker volume create -d loop") as step:
            self._engine.docker("volume", "create", "-d", "loop", "-o", "size=400M", "ledger")
            undo.callback(self._delete, "ledger")
            step.detail = self._osd("list", "-q")

    def _write(self) -> None:
        with self.steps.step("A container writes, another reads"):
            self._shell("ledger", "echo 100 > /data/balance")
            self.steps.promise(
                self._shell("ledger", "cat /data/balance") == "100", "it isn't there"
            )

    def _snapshot(self, undo: contextlib.ExitStack) -> None:
        with self.steps.step("A snapshot; then the volume changes"):
            self._osd("snap", "ledger", "--name", "monday", "--readonly")
            undo.callback(self._delete, "monday")
            self._shell("ledger", "echo 0 > /data/balance")

    def _clone(self, undo: contextlib.ExitStack) -> None:
        with self.steps.step("A clone of the snapshot has what was") as step:
            self._engine.docker("volume", "create", "-d", "loop", "-o", "from=monday", "trial")
            undo.callback(self._delete, "trial")
            self.steps.promise(self._shell("trial", "cat /data/balance") == "100", "it hasn't")
            step.detail = "100"

    def _grow(self) -> None:
        with self.steps.step("The volume grows under a running container") as step:
            self._engine.docker(
                "run", "--detach", "--name", "clerk", "--entrypoint", "/bin/sh",
                "--network", "none", "--volume", "ledger:/data", self._options.image,
                "-c", "exec sleep 600",
            )  # fmt: skip
            before = self._available()
            self._osd("grow", "ledger", "--size", "500M")
            after = self._available()
            self.steps.promise(after > before, "the container sees no more room")
            step.detail = f"{before // 1024} MiB free before, {after // 1024} after"

    def _lose_the_daemon(self) -> None:
        with self.steps.step("The daemon is killed; a container works on"):
            self._stop_daemon(signal.SIGKILL)
            self._engine.docker("exec", "clerk", "sh", "-c", "echo 7 > /data/balance")
        self._start_daemon("The next daemon knows what is mounted")
        with self.steps.step("The container goes, and so does the mount") as step:
            self._engine.docker("rm", "--force", "clerk")
            left = [each.path for each in mounts.below(str(self._top / "state" / "mounts"))]
            self.steps.promise(not left, f"mounted: {', '.join(left)}")
            step.detail = f"{len(self._osd('list', '-q').splitlines())} volumes, none mounted"

    # On the way back ------------------------------------------------------------------------

    def _delete(self, name: str) -> None:
        with self.steps.step(f"Delete {name}", back=True):
            with contextlib.suppress(exceptions.CommandFailed):
                self._engine.docker("rm", "--force", "clerk")
            self._osd("delete", name)

    def _stop_daemon(self, number: signal.Signals) -> None:
        if self._daemon is not None:
            self._daemon.send_signal(number)
            self._daemon.wait(60)
            self._daemon = None

    def _look_for_leftovers(self, state: Path) -> None:
        with self.steps.step("Nothing is left", back=True) as step:
            left = host.kept_open(str(state))
            self.steps.promise(not left, ", ".join(left))
            step.detail = "no mount, no loop device"

    # Words ----------------------------------------------------------------------------------

    def _socket(self, name: str) -> str:
        return str(self._top / "state" / name)

    def _osd(self, *words: str) -> str:
        state = str(self._top / "state")
        return osd_engine.run([*_osd(), "--state-dir", state, "loop", *words])

    def _shell(self, volume: str, script: str) -> str:
        return self._engine.docker(
            "run", "--rm", "--entrypoint", "/bin/sh", "--network", "none",
            "--volume", f"{volume}:/data", self._options.image, "-c", script,
        )  # fmt: skip

    def _available(self) -> int:
        """Return the KiB that the container may still write."""
        said = self._engine.docker("exec", "clerk", "df", "-k", "/data")
        return int(said.splitlines()[-1].split()[3])


def _osd() -> list[str]:
    return [sys.executable, "-m", "container_stack.cmd.osd.main"]
