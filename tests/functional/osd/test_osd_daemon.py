# SPDX-License-Identifier: Apache-2.0
"""The daemon as a process: started, ended, killed, handed sockets, and refused."""

import json
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import trustme

from container_stack.cmd.osd import client
from container_stack.host import mounts

from . import osd_daemon

MEMORY: dict[str, Any] = {"memory": None}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[osd_daemon.Daemon]:
    with osd_daemon.daemon(tmp_path, MEMORY) as made:
        yield made


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[osd_daemon.Daemon]:
    scripts = Path(sys.executable).parent
    helper = osd_daemon.helper(tmp_path / "etc", tmp_path / "state", scripts)
    with osd_daemon.daemon(tmp_path, {"loop": None}, root_helper=helper) as made:
        yield made


def ask(daemon: osd_daemon.Daemon, driver: str, call: str, **body: str) -> Any:
    path = str(daemon.plugin_dir / f"{driver}.sock")
    return client.Client(path).call("POST", f"/{call}", body)


def test_sigterm_ends_it_and_its_sockets(daemon: osd_daemon.Daemon) -> None:
    daemon.start()
    paths = [
        daemon.state_dir / "driver" / "memory.sock",
        daemon.state_dir / "cluster" / "osd.sock",
        daemon.plugin_dir / "memory.sock",
    ]
    for path in paths:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert daemon.stop() == 0
    assert not any(path.exists() for path in paths)


def test_what_it_knew_it_knows_after_a_kill(daemon: osd_daemon.Daemon) -> None:
    daemon.start()
    volume = daemon.run("memory", "create", "ledger", "-l", "app=books", "-s", "12")
    path = daemon.run("memory", "mount", "ledger")
    Path(path, "page").write_text("one", encoding="utf-8")
    daemon.kill()
    daemon.start()
    found = daemon.json("memory", "inspect", "ledger")[0]
    assert (found["ID"], found["AttachPath"]) == (volume, path)
    assert found["Locator"]["VolumeLabels"] == {"app": "books"}
    assert Path(path, "page").read_text(encoding="utf-8") == "one"
    daemon.run("memory", "unmount", "ledger")
    daemon.run("memory", "delete", "ledger")


def test_mounts_outlive_it(loop: osd_daemon.Daemon) -> None:
    loop.start()
    loop.run("loop", "create", "ship", "-s", "330")
    path = loop.run("loop", "mount", "ship")
    assert loop.stop() == 0
    assert mounts.at(path) is not None
    Path(path, "log").write_text("afloat", encoding="utf-8")
    loop.start()
    loop.kill()
    assert mounts.at(path) is not None
    loop.start()
    assert loop.json("loop", "list")[0]["state"] == "mounted"
    loop.run("loop", "unmount", "ship")
    assert mounts.at(path) is None
    loop.run("loop", "delete", "ship")


def test_second_one_is_refused(daemon: osd_daemon.Daemon) -> None:
    daemon.start()
    assert "Another daemon has" in daemon.refused()
    assert daemon.run("memory", "list", "-q") == ""


@pytest.mark.parametrize(
    ("drivers", "options", "said"),
    [
        ({}, {}, "names no drivers"),
        ({"memroy": None}, {}, "no backend 'memroy'; did you mean memory?"),
        ({"moody": {"wnats": "x"}}, {}, "unknown key 'wnats'; did you mean wants?"),
        (
            {"moody": {"wants": "/nowhere/x"}},
            {},
            "Driver moody isn't ready: There is no /nowhere/x",
        ),
        (MEMORY, {"intervall": 3}, "did you mean interval?"),
        (MEMORY, {"registry": "nodb://x"}, "The registry's URL is sqlite"),
        (MEMORY, {"group": "cstest-none"}, "there is no group cstest-none"),
    ],
)
def test_what_is_wrong_is_told_at_the_start(
    daemon: osd_daemon.Daemon, drivers: Any, options: Any, said: str
) -> None:
    daemon.configure(drivers, **options)
    told = daemon.refused()
    assert said in told
    assert len(told.splitlines()) == 1


def test_state_directory_that_others_can_write_is_refused(daemon: osd_daemon.Daemon) -> None:
    daemon.state_dir.mkdir()
    daemon.state_dir.chmod(0o777)
    assert "nobody else may write there" in daemon.refused()


def test_private_mount_namespace_is_refused(daemon: osd_daemon.Daemon) -> None:
    daemon.configure(MEMORY, docker_url="unix:///cstest-no-engine.sock")
    told = daemon.refused("unshare", "--mount", "--propagation", "private")
    assert "isn't seen outside" in told
    daemon.configure(MEMORY, plugins=False)
    daemon.start("unshare", "--mount", "--propagation", "private")


def test_one_driver_that_is_not_ready_hinders_no_other(daemon: osd_daemon.Daemon) -> None:
    wanted = daemon.directory / "wanted"
    daemon.configure({**MEMORY, "moody": {"wants": str(wanted)}}, interval=1)
    daemon.start()
    daemon.run("memory", "create", "here")
    why = f"Driver moody isn't ready: There is no {wanted}."
    assert daemon.failed("moody", "create", "there") == f"create: {why}"
    assert ask(daemon, "moody", "Plugin.Activate") == {"Implements": ["VolumeDriver"]}
    assert ask(daemon, "moody", "VolumeDriver.Create", Name="there") == {"Err": why}
    assert [each["name"] for each in daemon.json("driver", "list")["result"]] == ["memory"]
    wanted.touch()
    end = time.monotonic() + 60
    while len(daemon.json("driver", "list")["result"]) < 2:
        assert time.monotonic() < end, daemon.log
        time.sleep(0.1)
    daemon.run("moody", "create", "there")
    assert ask(daemon, "moody", "VolumeDriver.Get", Name="there")["Volume"]["Name"] == "there"


def test_drivers_are_added(daemon: osd_daemon.Daemon) -> None:
    daemon.start()
    assert (
        daemon.run("driver", "add", "--name", "second", "--options", "backend=memory") == "second"
    )
    daemon.run("second", "create", "v")
    assert ask(daemon, "second", "VolumeDriver.Get", Name="v")["Err"] == ""
    known = daemon.json("driver", "list")["result"]
    assert [(each["name"], each["backend"]) for each in known] == [
        ("memory", "memory"),
        ("second", "memory"),
    ]
    refused = {
        ("--name", "second"): "There is a driver second already.",
        ("--name", "third", "-o", "backend=memoyr"): "did you mean memory?",
        ("--name", "Third"): "can't be a driver's name",
        ("--name", "moody", "-o", "wants=/nowhere/x"): "There is no /nowhere/x.",
        (): 'missing parameter "name"',
    }
    for words, said in refused.items():
        assert said in daemon.failed("driver", "add", *words)
    done = daemon.cli("driver", "add", "-n", "third", "-o", "-", input_="backend=memory\nlimit=9\n")
    assert done.stdout == "third\n", done.stderr


def test_sockets_of_a_service_manager_are_taken(daemon: osd_daemon.Daemon) -> None:
    """As systemd hands them: descriptors from 3 on, for the process that LISTEN_PID names."""
    daemon.plugin_dir.mkdir()
    path = daemon.plugin_dir / "memory.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as handed:
        handed.bind(str(path))
        handed.listen(16)
        before = path.stat().st_ino
        script = 'exec 3<&"$FD"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$@"'
        log = (daemon.directory / "log").open("wb")
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", osd_daemon.OSD, "-d", "-f", str(daemon.config)],
            env={**daemon.environment, "FD": str(handed.fileno())},
            pass_fds=[handed.fileno()],
            stdout=log,
            stderr=log,
        )
        try:
            # Nobody waited for it to serve: this waits in the socket.
            created = ask(daemon, "memory", "VolumeDriver.Create", Name="early")
            assert created == {"Err": ""}
        finally:
            process.terminate()
            process.wait(60)
            log.close()
        assert path.stat().st_ino == before, "it isn't ours to remove"


def test_service_manager_is_told(daemon: osd_daemon.Daemon) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(daemon.directory / "notify"))
        manager.settimeout(60)
        daemon.start("env", f"NOTIFY_SOCKET={daemon.directory}/notify")
        assert manager.recv(100) == b"READY=1"
        assert daemon.stop() == 0
        assert manager.recv(100) == b"STOPPING=1"


def test_secrets_are_nowhere(daemon: osd_daemon.Daemon) -> None:
    daemon.configure({"memory": {"aws_secret_access_key": "HUSH"}}, log_level="debug")
    daemon.config.chmod(0o644)
    daemon.start()
    daemon.run("memory", "create", "v")
    daemon.cli("driver", "add", "-n", "m2", "-o", "-", input_="backend=nomad\npassword=HUSH\n")
    for place in (daemon.log, Path(f"/proc/{daemon.pid}/cmdline").read_text(encoding="utf-8")):
        assert "HUSH" not in place
    assert "Everybody may read the secrets" in daemon.log


def test_tcp_wants_tls_and_the_token(daemon: osd_daemon.Daemon) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(daemon.directory / "ca.pem"))
    issued.private_key_pem.write_to_path(str(daemon.directory / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(daemon.directory / "cert.pem"))
    token = daemon.directory / "token"
    token.write_text("a-long-enough-token\n", encoding="ascii")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    listen = {
        "address": "127.0.0.1",
        "port": port,
        "cert": str(daemon.directory / "cert.pem"),
        "key": str(daemon.directory / "key.pem"),
        "token_file": str(token),
    }
    daemon.configure(MEMORY, listen=listen)
    token.chmod(0o644)
    assert "Everybody may read the token" in daemon.refused()
    token.chmod(0o600)
    daemon.start()
    url = f"https://127.0.0.1:{port}/driver/memory/v1/volumes"
    trusted = str(daemon.directory / "ca.pem")
    assert requests.get(url, verify=trusted, timeout=60).status_code == 401
    headers = {"Authorization": "Bearer a-long-enough-token"}
    assert requests.get(url, headers=headers, verify=trusted, timeout=60).json() == []
    page, figures = f"https://127.0.0.1:{port}/", f"https://127.0.0.1:{port}/cluster/v1/drivers"
    assert "page/osd.js" in requests.get(page, verify=trusted, timeout=60).text
    assert requests.get(figures, verify=trusted, timeout=60).status_code == 401
    daemon.stop()
    daemon.configure(MEMORY, listen={**listen, "readable": True})
    daemon.start()
    (found,) = requests.get(figures, verify=trusted, timeout=60).json()
    assert found["name"] == "memory"
    assert requests.get(url, verify=trusted, timeout=60).status_code == 401


def test_node_is_in_the_registry(daemon: osd_daemon.Daemon) -> None:
    daemon.configure(MEMORY, cluster={"clusterid": "fleet", "nodeid": "ship-1"})
    daemon.start()
    found = daemon.json("cluster", "enumerate")["cluster"]
    assert (found["Id"], [node["Id"] for node in found["Nodes"]]) == ("fleet", ["ship-1"])


def test_many_kills_while_it_works(daemon: osd_daemon.Daemon) -> None:
    for number in range(4):
        daemon.start()
        script = f"""
for n in $(seq 50); do {osd_daemon.OSD} memory create v{number}-$n; done
"""
        worker = subprocess.Popen(
            ["bash", "-c", script],
            env=daemon.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        time.sleep(1.5)
        daemon.kill()
        os.killpg(worker.pid, 9)
        told = set(worker.communicate()[0].split())
        daemon.start()
        known = {each["ID"] for each in daemon.json("memory", "enumerate")}
        assert told <= known, "what was acknowledged is lost"
        daemon.stop()


def test_json_errors(daemon: osd_daemon.Daemon) -> None:
    told = json.loads(daemon.failed("--json", "memory", "list"))
    assert told["cmd"] == "list"
    assert "no daemon serves this driver" in told["error"]
