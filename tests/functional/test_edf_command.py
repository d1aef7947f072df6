# SPDX-License-Identifier: Apache-2.0
"""``container-stack edf-simulator`` as somebody starts it who writes a client."""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import attach, attach_libiscsi
from container_stack.imagestore import edf

PASSWORD = "cstest-whelk-2207"
ME = "iqn.2026-11.test:me"
COMMAND = (sys.executable, "-m", "container_stack.cmd.main", "edf-simulator")


@pytest.fixture
def address():
    """One of the test's own: the ports are the array's usual ones."""
    return "127." + ".".join(str(random.randint(1, 250)) for _ in range(3))


@pytest.fixture
def start(tmp_path, address):
    """A function that starts the program, waits until it answers, and ends it at last."""
    secret = tmp_path / "secret"
    secret.write_text(f"{PASSWORD}\n")
    place = ("--directory", str(tmp_path / "array"), "--address", address)
    with contextlib.ExitStack() as undo:

        def start(*words):
            process = subprocess.Popen(
                [*COMMAND, *place, "--login", "diver", "--password-file", str(secret), *words],
                stdout=subprocess.PIPE,
                text=True,
            )
            undo.callback(process.stdout.close)
            undo.callback(process.wait)
            undo.callback(process.kill)
            said = ""
            while "Interrupt this to end it." not in said:
                line = process.stdout.readline()
                assert line, f"it ended after {said!r}"
                said += line
            return process, said

        yield start


@pytest.fixture
def client(tmp_path, address):
    def client(**values):
        patience = {"timeout": 10.0, "retry_attempts": 1, "retry_interval": 0.05}
        settings = {"ca_file": str(tmp_path / "array/ca.pem"), **patience, **values}
        return edf.Client(edf.Endpoint(address, "diver", PASSWORD, **settings))

    return client


def children(process):
    listed = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return [int(pid) for pid in listed.stdout.split()]


def wait(condition):
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_tells_how_to_use_it_and_ends_with_all_that_it_started(
    start, client, number, tmp_path, address
):
    process, said = start()
    assert f"https://{address}:7718" in said
    assert "datera_san_login = diver" in said
    assert PASSWORD not in said
    assert PASSWORD not in Path(f"/proc/{process.pid}/cmdline").read_text()
    conf = tmp_path / "array/glance-api.conf"
    assert f"datera_san_password = {PASSWORD}" in conf.read_text()
    assert conf.stat().st_mode & 0o777 == 0o600
    assert client().system().sw_version == "2.2.0"
    [tgtd] = children(process)
    process.send_signal(number)
    assert process.wait(15) == 0
    assert not os.path.exists(f"/proc/{tgtd}")
    assert not list((tmp_path / "array").glob("tgtd.0*"))


def test_kill_takes_the_server_along_and_the_next_start_knows_everything(start, client, tmp_path):
    process, _said = start()
    ours = client()
    ours.create_app_instance("OS-IMAGE-1", size_gib=2)
    ours.create_app_instance("OS-IMAGE-2", size_gib=1)
    ours.set_online("OS-IMAGE-1", True)
    ours.allow("OS-IMAGE-1", ME)
    ours.set_metadata("OS-IMAGE-1", {"length": "7"})
    snapshot = ours.snapshot("OS-IMAGE-1")
    write(ours.target("OS-IMAGE-1"), b"oysters")
    [tgtd] = children(process)
    process.kill()
    process.wait()
    wait(lambda: not os.path.exists(f"/proc/{tgtd}"))
    array = tmp_path / "array"
    (array / "volumes/half-made.img").touch()

    start()
    assert [each.name for each in ours.app_instances()] == ["OS-IMAGE-1", "OS-IMAGE-2"]
    assert ours.metadata("OS-IMAGE-1") == {"length": "7"}
    assert ours.snapshots("OS-IMAGE-1") == [snapshot]
    ours.wait_available("OS-IMAGE-1")
    options = attach.Options(initiator=ME)
    attacher = attach_libiscsi.LibiscsiAttacher.open(options)
    with attacher.attach(ours.target("OS-IMAGE-1")) as device:
        assert device.read(0, 7) == b"oysters"
    assert len(list((array / "volumes").iterdir())) == 2
    for name in ("OS-IMAGE-1", "OS-IMAGE-2"):
        ours.delete_app_instance(name)
    for kept in ("volumes", "snapshots", "targets", "instances"):
        assert list((array / kept).iterdir()) == []


def write(target, data):
    attacher = attach_libiscsi.LibiscsiAttacher.open(attach.Options(initiator=ME))
    with attacher.attach(target) as device:
        device.write(0, data)
        device.flush()


def test_plain_http_has_its_own_port(start, client, address):
    _process, said = start("--http", "--target", "file")
    assert f"http://{address}:7717" in said
    assert "datera_attach = file" in said
    assert "datera_ca_file" not in said
    assert client(port=7717, ca_file="").system().sw_version == "2.2.0"


def test_faults_can_be_made_from_the_start(start, client):
    start("--target", "file", "--fault", "http_error,status=503,times=2,path=/system$")
    with pytest.raises(exceptions.ArrayUnavailable):
        client().system()
    assert client().system().name


def test_array_can_be_of_other_software_and_size(start, client):
    start("--target", "file", "--sw-version", "3.3.1.2", "--capacity", "3", "--fault", "fill")
    assert client().system().total == 3 * 1024**3
    assert client().system().sw_version == "3.3.1.2"
    with pytest.raises(exceptions.NoSpace):
        client().create_app_instance("OS-IMAGE-1", size_gib=1)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--fault", "tsunami"), "there are the faults http_error"),
        (("--fault", "http_error,colour=red"), "http_error takes status"),
        (("--fault", "http_error,status=red"), "can't be made"),
        (("--password-file", "/no/such/file"), "/no/such/file"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(words, told, tmp_path, address):
    ended = subprocess.run(
        [*COMMAND, "--directory", str(tmp_path), "--address", address, "--target", "file", *words],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert re.search(re.escape(told), ended.stderr)
    assert len(ended.stderr.splitlines()) == 1
