# SPDX-License-Identifier: Apache-2.0
"""The units for systemd, as far as systemd's own tools show what they do."""

import configparser
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from container_stack.cmd.osd import client

from . import osd_daemon

UNITS = Path(__file__).parents[3] / "etc" / "systemd"


def test_docker_starts_after_them_and_guards_outlive_daemons() -> None:
    service, plug = (configparser.RawConfigParser(strict=False) for _ in range(2))
    service.read(UNITS / "osd.service")
    plug.read(UNITS / "osd-plugin@.socket")
    assert service["Unit"]["Before"] == plug["Unit"]["Before"] == "docker.service"
    assert service["Service"]["KillMode"] == "process"
    assert service["Service"]["PrivateMounts"] == "no"
    assert plug["Socket"]["Service"] == "osd.service"
    assert plug["Socket"]["ListenStream"] == "/run/docker/plugins/%i.sock"


def test_systemds_own_sockets_are_taken(tmp_path: Path) -> None:
    program = shutil.which("systemd-socket-activate")
    if program is None:
        pytest.skip("there is no systemd-socket-activate")
    with osd_daemon.daemon(tmp_path, {"memory": None}) as daemon:
        daemon.plugin_dir.mkdir()
        path = daemon.plugin_dir / "memory.sock"
        with (tmp_path / "log").open("wb") as log:
            # It becomes the daemon at the first connection.
            process = subprocess.Popen(
                [
                    *(program, "--listen", str(path)),
                    *(f"--setenv={name}={value}" for name, value in daemon.environment.items()),
                    *(osd_daemon.OSD, "-d", "-f", str(daemon.config)),
                ],
                env=daemon.environment,
                stdout=log,
                stderr=log,
            )
        try:
            end = time.monotonic() + 60
            while not path.exists():
                assert time.monotonic() < end
                time.sleep(0.05)
            answer = client.Client(str(path)).call("POST", "/VolumeDriver.Create", {"Name": "v"})
            assert answer == {"Err": ""}
            assert daemon.run("memory", "list", "-q")
        finally:
            process.terminate()
            process.wait(60)
