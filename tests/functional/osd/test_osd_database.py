# SPDX-License-Identifier: Apache-2.0
"""A daemon whose database comes later than it does, or refuses it."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from container_stack.cmd.osd import client
from container_stack.testing import sql_servers

from . import osd_daemon

MEMORY: dict[str, Any] = {"memory": None}
#: Seconds in which all is refused, on a machine that is busy: the server is given 3.
BOUND = 40.0


@pytest.fixture(scope="module")
def server() -> Iterator[sql_servers.Server]:
    with sql_servers.running("mariadb") as made:
        yield made


def _within(seconds: float, happens: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end
        time.sleep(0.2)


def test_daemon_starts_without_its_database_and_finds_it_later(
    server: sql_servers.Server, tmp_path: Path
) -> None:
    url = server.database()
    options = {"registry": url, "interval": "1", "cluster": {"nodeid": "one"}}
    with osd_daemon.daemon(tmp_path, MEMORY, **options) as daemon:
        daemon.start()
        daemon.run("memory", "create", "ledger", "-s", "12")
        plugin = client.Client(str(daemon.plugin_dir / "memory.sock"))
        used = {"Name": "ledger", "ID": "c" * 64}
        path = plugin.call("POST", "/VolumeDriver.Mount", used)["Mountpoint"]
        daemon.kill()
        server.kill()
        try:
            daemon.start()
            assert "doesn't answer" in daemon.log
            begun = time.monotonic()
            plugin.call("POST", "/Plugin.Activate", {})
            for what in ("Create", "Get", "Mount", "Path", "Remove"):
                said = plugin.call("POST", f"/VolumeDriver.{what}", {"Name": "new", "ID": "i"})
                assert "The registry mysql" in said["Err"], what
            for words in (
                ("memory", "create", "new"),
                ("memory", "list"),
                ("cluster", "status"),
            ):
                assert "doesn't answer" in daemon.failed(*words)
            assert time.monotonic() < begun + BOUND
            assert "\nosd_registry_up 0.0\n" in _metrics(daemon)
            # What is mounted is this host's own knowledge.
            assert plugin.call("POST", "/VolumeDriver.Unmount", used) == {"Err": ""}
            assert not Path(path).exists()
        finally:
            server.start()
        _within(60, lambda: "\nosd_registry_up 1.0\n" in _metrics(daemon))
        assert plugin.call("POST", "/VolumeDriver.Create", {"Name": "new"}) == {"Err": ""}
        _within(60, lambda: _unmounted(daemon, "ledger"))
        for name in ("ledger", "new"):
            daemon.run("memory", "delete", name)
        assert "Traceback" not in daemon.log
        assert "cstest-secret" not in daemon.log


def _metrics(daemon: osd_daemon.Daemon) -> str:
    socket = str(daemon.state_dir / "cluster" / "osd.sock")
    words = ["curl", "--fail", "--silent", "--unix-socket", socket, "http://osd/metrics"]
    return subprocess.run(words, check=True, capture_output=True, text=True, timeout=120).stdout


def _unmounted(daemon: osd_daemon.Daemon, name: str) -> bool:
    found = daemon.json("memory", "inspect", name)[0]
    return (found["AttachPath"], found["AttachedOn"]) == ("", "")


def test_daemon_that_its_database_refuses_says_what_to_do(
    server: sql_servers.Server, tmp_path: Path
) -> None:
    url = server.database().replace(":cstest-secret", "")
    with osd_daemon.daemon(tmp_path, MEMORY, registry=url) as daemon:
        said = daemon.refused()
    assert "which has no password, refuses us" in said
    assert "user:password@" in said
