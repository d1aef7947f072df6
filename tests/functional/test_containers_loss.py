# SPDX-License-Identifier: Apache-2.0
"""An engine that freezes, dies, or is far away. Each is a test's own."""

import io
import os
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images

from . import busybox, dockerd

Engine = containers.Engine
MakeDockerd = Callable[..., dockerd.Dockerd]


@pytest.fixture
def daemon(make_dockerd: MakeDockerd) -> Iterator[dockerd.Dockerd]:
    return make_dockerd()


@pytest.fixture
def own_engine(daemon: dockerd.Dockerd) -> Engine:
    return Engine(daemon.url)


@pytest.fixture
def sleeper(own_engine: Engine) -> str:
    busybox.import_image(images.Images(own_engine), "cstest-busybox")
    return own_engine.run(containers.ContainerSpec("cstest-sleeper", "cstest-busybox", init=True))


class Attempt(threading.Thread):
    """A call in another thread, and what it raised."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__()
        self._call = call
        self.error: BaseException | None = None
        self.start()
        time.sleep(0.7)

    def run(self) -> None:
        try:
            self._call()
        except BaseException as exc:
            self.error = exc

    def outcome(self, within: float) -> BaseException | None:
        self.join(within)
        assert not self.is_alive(), "it still waits"
        return self.error


def test_engine_that_dies_is_noticed_by_all_and_found_again(
    daemon: dockerd.Dockerd, own_engine: Engine, sleeper: str
) -> None:
    command = Attempt(lambda: own_engine.exec(sleeper, ["sleep", "60"], timeout=60))
    events = Attempt(lambda: list(own_engine.events()))
    daemon.kill()
    for attempt in (command, events):
        error = attempt.outcome(within=5)
        assert isinstance(error, exceptions.EngineUnavailable)
        assert "dockerd" in str(error)
    with pytest.raises(exceptions.EngineUnavailable, match="start dockerd"):
        own_engine.list()
    daemon.start()
    assert [each.name for each in own_engine.list()] == ["cstest-sleeper"]
    own_engine.start(sleeper)
    assert own_engine.exec(sleeper, ["echo", "back"]).stdout == b"back\n"


def test_deadline_holds_when_the_engine_freezes(
    daemon: dockerd.Dockerd, own_engine: Engine, sleeper: str
) -> None:
    started = time.monotonic()
    command = Attempt(lambda: own_engine.exec(sleeper, ["sleep", "60"], timeout=2))
    daemon.freeze()
    error = command.outcome(within=15)
    daemon.thaw()
    assert isinstance(error, exceptions.CommandFailed)
    assert error.timed_out
    assert time.monotonic() - started < 2 + 5 + 5


def test_frozen_engine_is_given_up_before_a_command_starts(
    daemon: dockerd.Dockerd, own_engine: Engine, sleeper: str
) -> None:
    daemon.freeze()
    started = time.monotonic()
    with pytest.raises(exceptions.EngineUnavailable, match="no answer in time"):
        own_engine.exec(sleeper, ["true"], timeout=1)
    daemon.thaw()
    assert time.monotonic() - started < 30


def test_engine_with_a_full_disk_says_so(make_dockerd: MakeDockerd, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "cstest", small], check=True)
    try:
        daemon = make_dockerd(f"--data-root={small}", "--storage-driver=vfs")
        own_images = images.Images(Engine(daemon.url))
        with pytest.raises(exceptions.NoSpace, match="disk is full"):
            fill(own_images)
        daemon.stop()
    finally:
        # A dockerd mounts its data over itself.
        while os.path.ismount(small):
            subprocess.run(["umount", "-l", small], check=True)


def fill(own_images: images.Images) -> None:
    for number in range(20):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            busybox.add_file(tar, "blob", os.urandom(2_000_000))
        buffer.seek(0)
        own_images.import_tar(buffer, f"cstest-blob:{number}")


# TLS

CLIENT = """
import sys
from container_stack import exceptions
from container_stack.host import containers
directory, container = sys.argv[1:]
url = "tcp://127.0.0.1:2376"
known = containers.TLS(f"{directory}/ca.pem", f"{directory}/client.pem", f"{directory}/client.key")
engine = containers.Engine(url, tls=known)
data = bytes(range(256)) * 20_000
result = engine.exec(container, ["sh", "-c", "tee /dev/stderr; exit 3"], stdin=data)
assert result.exit_code == 3 and result.stdout == data and result.stderr == data
for number in range(20):
    assert engine.exec(container, ["wc", "-c"], stdin=b"1234").stdout.strip() == b"4"
try:
    engine.exec(container, ["sleep", "60"], timeout=1)
except exceptions.CommandFailed as exc:
    assert exc.timed_out
assert b"sleep 60" not in engine.exec(container, ["ps"]).stdout
assert [each.id for each in engine.list()] == [container]
strangers = containers.TLS(f"{directory}/ca.pem"), containers.TLS()
for tls in strangers:
    try:
        containers.Engine(url, tls=tls).list()
        raise SystemExit("a stranger was let in")
    except exceptions.EngineUnavailable as exc:
        print(exc)
        assert "check the certificates" in str(exc), exc
pair = f"{directory}/client.pem", f"{directory}/client.key"
trusting = containers.Engine(url, tls=containers.TLS(None, *pair, verify=False))
assert trusting.exec(container, ["wc", "-c"], stdin=b"1234").stdout.strip() == b"4"
"""


def test_tls_carries_everything_and_refuses_strangers(
    make_dockerd: MakeDockerd, tmp_path: Path
) -> None:
    make_certificates(tmp_path)
    daemon = make_dockerd(
        "--host=tcp://127.0.0.1:2376",
        "--tlsverify",
        f"--tlscacert={tmp_path}/ca.pem",
        f"--tlscert={tmp_path}/server.pem",
        f"--tlskey={tmp_path}/server.key",
    )
    own_engine = Engine(daemon.url)
    busybox.import_image(images.Images(own_engine), "cstest-busybox")
    spec = containers.ContainerSpec("cstest-sleeper", "cstest-busybox", init=True)
    container_id = own_engine.run(spec)
    # The engine's loopback is in its own network namespace.
    enter = ["nsenter", f"--net=/proc/{daemon.pid}/ns/net", sys.executable, "-c", CLIENT]
    subprocess.run([*enter, tmp_path, container_id], check=True, timeout=60)


def make_certificates(directory: Path) -> None:
    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-batch")
    openssl(*new, "-x509", "-subj", "/CN=cstest CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, extension in (
        ("server", "subjectAltName=IP:127.0.0.1"),
        ("client", "extendedKeyUsage=clientAuth"),
    ):
        (directory / "extensions").write_text(extension)
        openssl(*new, "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-extfile", "extensions", "-out", f"{name}.pem"),
        )
