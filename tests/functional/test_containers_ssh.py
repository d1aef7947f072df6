# SPDX-License-Identifier: Apache-2.0
"""An engine on another host, by ssh."""

import io
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.host import containers, images

from . import ssh_server
from .conftest import MakeSpec

DOCKER = os.environ.get("DOCKER_HOST", containers.DEFAULT_URL)


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The engine of this machine, as if it were another's."""
    with ssh_server.running(tmp_path, DOCKER, monkeypatch) as url:
        yield url


@pytest.fixture
def remote(url: str) -> Iterator[containers.Engine]:
    engine = containers.Engine(url)
    yield engine
    engine.close()
    deadline = time.monotonic() + 10
    while ssh_server.clients():
        assert time.monotonic() < deadline, "an ssh outlived its connection"
        time.sleep(0.05)


def test_one_connection_carries_many_calls(
    remote: containers.Engine, engine: containers.Engine
) -> None:
    for _call in range(5):
        assert remote.version() == engine.version()
    assert len(ssh_server.clients()) == 1


def test_commands_run_with_input_and_output(remote: containers.Engine, container: str) -> None:
    data = bytes(range(256)) * 4000
    result = remote.exec(container, ["sh", "-c", "tee /dev/stderr; exit 3"], stdin=data)
    assert (result.exit_code, result.stdout, result.stderr) == (3, data, data)
    with pytest.raises(exceptions.CommandFailed) as overran:
        remote.exec(container, ["sleep", "60"], timeout=3)
    assert overran.value.timed_out
    assert b"sleep 60" not in remote.exec(container, ["ps"]).stdout


def test_archives_stream_both_ways(remote: containers.Engine, busybox_image: str) -> None:
    remote_images = images.Images(remote)
    archive = b"".join(remote_images.save([busybox_image]))
    assert len(archive) > 500_000
    [image] = remote_images.load(io.BytesIO(archive))
    assert busybox_image in image.tags


def test_conversation_goes_on_over_ssh(remote: containers.Engine, container: str) -> None:
    with remote.talk(container, ["cat"]) as talk:
        for number in range(20):
            assert talk.ask(b"%d" % number, 10) == b"%d" % number


def test_host_that_nobody_knows_is_not_trusted(url: str, tmp_path: Path) -> None:
    (tmp_path / "known_hosts").write_text("")
    with pytest.raises(exceptions.EngineUnavailable, match="ssh says: Host key verification"):
        containers.Engine(url).version()


def test_key_that_is_not_accepted_is_told(url: str, tmp_path: Path) -> None:
    (tmp_path / "authorized_keys").write_text("")
    with pytest.raises(exceptions.EngineUnavailable, match="Permission denied"):
        containers.Engine(url).version()


def test_host_without_an_engine_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nobody = f"unix://{tmp_path}/none"
    with (
        ssh_server.running(tmp_path, nobody, monkeypatch) as url,
        pytest.raises(exceptions.EngineUnavailable, match=f"{tmp_path}/none"),
    ):
        containers.Engine(url).version()


def test_host_that_keeps_silent_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ssh_server.use(tmp_path, monkeypatch)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        engine = containers.Engine(f"ssh://127.0.0.1:{silent.getsockname()[1]}", timeout=2)
        with pytest.raises(exceptions.EngineUnavailable):
            engine.version()
        assert time.monotonic() - begin < 15
        with pytest.raises(exceptions.ContainerStackError):
            engine.exec("container", ["true"], timeout=2)


def test_containers_are_made_with_the_limits_of_a_sandbox(
    engine: containers.Engine, make_spec: MakeSpec
) -> None:
    spec = make_spec(
        limits=containers.Limits(
            memory=64 * 1024**2,
            swap=32 * 1024**2,
            cpu_period=50_000,
            cpu_quota=25_000,
            cpuset_cpus="0",
        ),
        stop_signal="SIGHUP",
        auto_remove=True,
    )
    with engine.creating(spec) as container:
        engine.start(container)
        check_sandbox(engine, container)
    engine.kill(container)
    deadline = time.monotonic() + 10
    while any(each.id == container for each in engine.list()):
        assert time.monotonic() < deadline, "it wasn't removed by itself"
        time.sleep(0.05)


def check_sandbox(engine: containers.Engine, container: str) -> None:
    with engine.connection.use() as client:
        config = client.inspect_container(container)
    host = config["HostConfig"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * 1024**2, 96 * 1024**2)
    assert (host["CpuPeriod"], host["CpuQuota"], host["CpusetCpus"]) == (50_000, 25_000, "0")
    assert config["Config"]["StopSignal"] == "SIGHUP"
    deadline = time.monotonic() + 10
    while not any("sleep" in line for line in engine.processes(container)):
        assert time.monotonic() < deadline, "its process isn't seen"
