# SPDX-License-Identifier: Apache-2.0
"""A sandbox of ours is the gateway's: its own options, said to an engine in other words."""

import dataclasses

import pytest

from container_stack.host import engine_config
from container_stack.storlets import gateway
from container_stack.storlets.node import probe, sandbox

LIMITS = {
    "container_mem_limit": "268435456",
    "container_pids_limit": "64",
    "container_cpu_period": "100000",
    "container_cpu_quota": "50000",
    "container_cpuset_cpus": "0-1",
    "container_cpuset_mems": "0",
}
OPTIONS = {"host_root": "/srv/storlets"}


def body(**options: str) -> dict[str, object]:
    spec = sandbox.spec(
        gateway.Gateway.of(OPTIONS | options), "305f5f3d12834", "sha256:abc", user="160"
    )
    return engine_config.container_config(spec, (1, 41)) | {"name": spec.name}


def test_it_is_started_as_the_gateway_starts_it() -> None:
    config = body()
    assert config["name"] == "305f5f3d12834_305f5f3d12834"
    assert config["Entrypoint"] == ["python3"]
    assert config["Cmd"] == [
        *("-m", "storlets.agent.daemon_factory", "/mnt/channels/factory_pipe", "DEBUG"),
        "305f5f3d12834_305f5f3d12834",
    ]
    assert config["Env"] == ["PYTHONPATH=/usr/local/lib/storlets/python"]
    assert config["User"] == "160"
    assert config["Labels"] == {"managed_by": "storlets"}
    assert config["StopSignal"] == "SIGHUP"
    assert config["NetworkDisabled"] is True
    host = config["HostConfig"]
    assert host["AutoRemove"] is True
    assert host["NetworkMode"] == "none"
    assert [(m["Source"], m["Target"], m["ReadOnly"]) for m in host["Mounts"]] == [
        ("/dev/log", "/dev/log", False),
        ("/srv/storlets/pipes/scopes/305f5f3d12834", "/mnt/channels", False),
        ("/srv/storlets/storlets/scopes/305f5f3d12834", "/var/lib/storlets", False),
        ("/usr/local/lib/storlets", "/usr/local/lib/storlets", True),
    ]


def test_limits_are_the_deployments() -> None:
    host = body(**LIMITS)["HostConfig"]
    names = ("Memory", "MemorySwap", "PidsLimit", "CpuPeriod", "CpuQuota", "CpusetCpus")
    assert [host[name] for name in names] == [2**28, 2**29, 64, 100000, 50000, "0-1"]
    assert host["CpusetMems"] == "0"


def test_without_limits_there_are_none() -> None:
    unlimited = {"Memory", "MemorySwap", "PidsLimit", "CpuPeriod", "CpuQuota", "CpusetCpus"}
    assert not unlimited & set(body()["HostConfig"])


def test_it_has_the_rights_that_the_engine_gives_by_itself() -> None:
    host = body()["HostConfig"]
    assert len(host["CapAdd"]) == 14
    assert host["SecurityOpt"] == []
    assert host["Init"] is False
    assert host["ReadonlyRootfs"] is False


def test_debug_level_of_the_configuration_is_used() -> None:
    assert body(storlet_daemon_factory_debug_level="INFO")["Cmd"][3] == "INFO"


def test_pipes_may_be_elsewhere() -> None:
    spec = sandbox.spec(gateway.Gateway.of(OPTIONS), "acc", "i", user="1", pipes="/srv/p/beside")
    assert spec.mounts[1].source == "/srv/p/beside"
    assert dataclasses.replace(spec, name="beside").command[-1] == "acc_acc"


@pytest.mark.parametrize("size", [0, 1, 200_000])
def test_probe_gives_back_what_it_gets(size: int) -> None:
    namespace: dict[str, object] = {}
    exec(probe.SOURCE, namespace)
    module, _, name = probe.MAIN.partition(".")
    assert f"{module}.py" == probe.FILE
    source, target = File(bytes(range(256)) * (size // 256 + 1)), File(b"")
    source.content = source.content[:size]
    namespace[name](None)([source], [target], {})  # type: ignore[operator]
    assert target.content == source.content[:size]
    assert target.metadata == {"Colour": "green"}
    assert source.closed
    assert target.closed


def test_probe_has_another_name_for_each_switch_that_python_can_import() -> None:
    one, other = probe.new_name(), probe.new_name()
    assert one != other
    assert probe.is_name(one)
    assert not probe.is_name(probe.MAIN)
    module, _, name = one.partition(".")
    assert module.isidentifier()
    assert name == probe.MAIN.partition(".")[2]
    assert probe.file(one) == f"{module}.py"


class File:
    """What a storlet gets."""

    def __init__(self, content: bytes) -> None:
        self.content, self.at, self.closed = content, 0, False
        self.metadata: dict[str, str] | None = None

    def read(self, size: int) -> bytes:
        self.at += size
        return self.content[self.at - size : self.at]

    def write(self, data: bytes) -> None:
        assert self.metadata is not None, "metadata come before data"
        self.content += data

    def get_metadata(self) -> dict[str, str]:
        return {"Colour": "green"}

    def set_metadata(self, metadata: dict[str, str]) -> None:
        self.metadata = metadata

    def close(self) -> None:
        self.closed = True
