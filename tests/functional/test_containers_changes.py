# SPDX-License-Identifier: Apache-2.0
"""What can be done to a container that exists, and what else it can be given."""

import pytest

from container_stack import exceptions
from container_stack.host import containers, images

from .conftest import MakeSpec

Engine = containers.Engine
MIB = 1024**2


def raw(engine: Engine, container: str) -> dict[str, object]:
    with engine.connection.use() as client:
        found: dict[str, object] = client.inspect_container(container)
    return found


def test_pause_and_unpause_may_be_repeated(engine: Engine, container: str) -> None:
    for _ in range(2):
        engine.pause(container)
    assert engine.inspect(container).state == "paused"
    with pytest.raises(exceptions.Busy, match="paused"):
        engine.exec(container, ["true"])
    for _ in range(2):
        engine.unpause(container)
    assert engine.exec(container, ["true"]).exit_code == 0
    engine.stop(container, timeout=0)
    with pytest.raises(exceptions.Busy, match="not running"):
        engine.pause(container)


def test_paused_container_can_be_stopped(engine: Engine, container: str) -> None:
    engine.pause(container)
    engine.stop(container, timeout=0)
    assert engine.inspect(container).state == "exited"


def test_restart_starts_what_runs_and_what_does_not(engine: Engine, container: str) -> None:
    first = engine.inspect(container).started_at
    engine.restart(container, timeout=0)
    second = engine.inspect(container).started_at
    engine.stop(container, timeout=0)
    engine.restart(container)
    third = engine.inspect(container).started_at
    assert first
    assert second
    assert third
    assert first < second < third


def test_limits_change_while_it_runs_and_what_is_not_named_stays(
    engine: Engine, make_spec: MakeSpec
) -> None:
    container = engine.run(
        make_spec(limits=containers.Limits(memory=64 * MIB, pids=40, cpu_shares=300))
    )
    try:
        engine.update(container, containers.Limits(memory=96 * MIB, swap=32 * MIB, pids=50))
        host = raw(engine, container)["HostConfig"]
        stats = engine.stats(container)
    finally:
        engine.remove(container)
    assert isinstance(host, dict)
    assert (host["Memory"], host["MemorySwap"], host["PidsLimit"]) == (96 * MIB, 128 * MIB, 50)
    assert host["CpuShares"] == 300
    assert stats["memory_stats"]["limit"] == 96 * MIB
    assert stats["pids_stats"]["current"] >= 1


def test_commit_keeps_what_was_written_and_no_mount(engine: Engine, make_spec: MakeSpec) -> None:
    scratch = containers.Mount("", "/scratch", "tmpfs")
    container = engine.run(make_spec(mounts=[scratch]))
    made = ""
    try:
        engine.exec(container, ["sh", "-c", "echo kept >/kept; echo lost >/scratch/lost"])
        made = engine.commit(container, changes=["ENV A=b", "LABEL c=d"], comment="said")
        engine.remove(container)
        found = images.Images(engine).find(made)
        assert found is not None
        assert (found.tags, found.labels["c"]) == ((), "d")
        container = engine.run(make_spec(image=made))
        seen = engine.exec(container, ["sh", "-c", "cat /kept; echo $A; ls -A /scratch"])
        assert seen.stdout == b"kept\nb\n"
    finally:
        engine.remove(container)
        if made:
            images.Images(engine).remove(made)


def test_container_gets_names_name_servers_and_devices(engine: Engine, make_spec: MakeSpec) -> None:
    spec = make_spec(
        hostname="web",
        domainname="example.org",
        hosts=[("db db.example.org", "192.0.2.9")],
        dns=["192.0.2.53"],
        dns_search=["example.org"],
        working_dir="/tmp",
        devices=[containers.Device("/dev/fuse", "/dev/mine", "r")],
        log_size=100_000,
        open_stdin=True,
        stdin_once=False,
    )
    container = engine.run(spec)
    try:
        script = "pwd; cat /etc/resolv.conf; grep db /etc/hosts; ls -l /dev/mine; dnsdomainname"
        said = engine.exec(container, ["sh", "-c", script]).stdout.decode()
        config, host = raw(engine, container)["Config"], raw(engine, container)["HostConfig"]
    finally:
        engine.remove(container)
    assert isinstance(config, dict)
    assert isinstance(host, dict)
    lines = said.splitlines()
    assert lines[:3] == ["/tmp", "search example.org", "nameserver 192.0.2.53"]
    assert "192.0.2.9\tdb db.example.org" in lines
    assert any(line.startswith("c") and line.endswith("/dev/mine") for line in lines)
    assert (config["Domainname"], config["OpenStdin"], config["StdinOnce"]) == (
        "example.org",
        True,
        False,
    )
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": "50000", "max-file": "2"},
    }
