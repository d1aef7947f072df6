# SPDX-License-Identifier: Apache-2.0
"""Leases in an etcd of three, of which one may fail, and in memory."""

import contextlib
import itertools
import os
import signal
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack import exceptions
from container_stack.testing import lease_contract
from container_stack.volumes.cluster import etcd, leases

from .. import etcd as etcd_servers

#: Of tests: etcd makes no shorter ones.
TIMES = leases.Times(etcd.SHORTEST)


class TestMemoryLeases(lease_contract.LeaseContract):
    @pytest.fixture
    def memory(self) -> lease_contract.MemoryLeases:
        return lease_contract.MemoryLeases(TIMES)

    @pytest.fixture
    def open_leases(self, memory: lease_contract.MemoryLeases) -> lease_contract.Open:
        return lambda: memory

    @pytest.fixture
    def wait(self, memory: lease_contract.MemoryLeases) -> lease_contract.Wait:
        return memory.wait


class Etcds:
    """Three members on loopback."""

    def __init__(self, directory: Path) -> None:
        ports = [etcd_servers.free_port() for _each in range(6)]
        self.servers = [("127.0.0.1", port) for port in ports[:3]]
        peers = [f"http://127.0.0.1:{port}" for port in ports[3:]]
        members = ",".join(f"m{number}={peer}" for number, peer in enumerate(peers))
        self._processes = []
        for number, (port, peer) in enumerate(zip(ports[:3], peers, strict=True)):
            url = f"http://127.0.0.1:{port}"
            command = [
                *(etcd_servers.PROGRAM, "--name", f"m{number}"),
                *("--data-dir", str(directory / str(number))),
                *("--listen-client-urls", url, "--advertise-client-urls", url),
                *("--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer),
                *("--initial-cluster", members),
            ]
            with open(directory / f"{number}.log", "wb") as log:
                self._processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def freeze(self, number: int) -> None:
        os.kill(self._processes[number].pid, signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        os.kill(self._processes[number].pid, signal.SIGCONT)

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcds]:
    started = Etcds(tmp_path_factory.mktemp("etcds"))
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(exceptions.ServiceUnavailable):
                open_(started, "ready").take("ready", "h1")
                break
            assert time.monotonic() < end
        yield started
    finally:
        started.end()


def open_(members: Etcds, prefix: str, times: leases.Times = TIMES) -> etcd.EtcdLeases:
    # What a busy machine needs longer for than three seconds' lease allows.
    held = etcd.EtcdLeases(members.servers, f"/cstest/{prefix}", times)
    for client in held._servers:
        client.timeout = 5
    return held


class TestEtcdLeases(lease_contract.LeaseContract):
    @pytest.fixture
    def open_leases(self, members: Etcds) -> lease_contract.Open:
        prefix = uuid.uuid4().hex
        return lambda: open_(members, prefix)

    @pytest.fixture
    def wait(self) -> lease_contract.Wait:
        return time.sleep


@pytest.mark.parametrize("number", range(3))
def test_any_one_member_may_hang(members: Etcds, number: int) -> None:
    held = etcd.EtcdLeases(members.servers, f"/cstest/{uuid.uuid4().hex}", leases.Times(30))
    held.take("n1", "h1")
    members.freeze(number)
    try:
        end = time.monotonic() + 60
        while True:  # another leader has to be chosen
            with contextlib.suppress(exceptions.ServiceUnavailable):
                held.renew("n1", "h1")
                break
            assert time.monotonic() < end
    finally:
        members.thaw(number)


def test_without_a_majority_every_request_ends(members: Etcds) -> None:
    times = leases.Times(15)
    held = etcd.EtcdLeases(members.servers, f"/cstest/{uuid.uuid4().hex}", times)
    held.take("n1", "h1")
    members.freeze(0)
    members.freeze(1)
    try:
        begun = time.monotonic()
        with pytest.raises(exceptions.ServiceUnavailable):
            held.renew("n1", "h1")
        assert time.monotonic() < begun + 4 * times.request + 5
    finally:
        members.thaw(0)
        members.thaw(1)


def test_a_request_that_arrives_late_changes_nothing(members: Etcds) -> None:
    held = open_(members, uuid.uuid4().hex, leases.Times(30))
    held.take("n1", "h1")
    client = held._servers[0]
    real, late = client.transaction, []

    def hold(body: object) -> object:
        late.append(body)
        raise etcd.etcd3gw_exceptions.ConnectionTimeoutError("held up")

    client.transaction = hold
    held.renew("n1", "h1")  # by another member, after this one has let the request lie
    client.transaction = real
    before = client.get(f"{held._prefix}n1", metadata=True)
    assert "succeeded" not in client.transaction(late[0])
    assert client.get(f"{held._prefix}n1", metadata=True) == before


def test_renewing_leaves_few_leases_behind(members: Etcds) -> None:
    held = open_(members, uuid.uuid4().hex)
    before = _numbers(held)
    for _each in itertools.repeat(None, 20):
        held.take("n1", "h1")
    assert len(_numbers(held) - before) <= 20
    time.sleep(4 * TIMES.lasts)
    assert not _numbers(held) - before


def _numbers(held: etcd.EtcdLeases) -> set[str]:
    client = held._servers[0]
    found = client.post(client.get_url("/lease/leases"), json={})
    return {each["ID"] for each in found.get("leases", ())}


@pytest.mark.parametrize("text", ["", "a,,b", "a:b", "[::1", ":2379"])
def test_servers_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(exceptions.HostNotReady):
        etcd.servers(text)


def test_servers_are_named_with_or_without_a_port() -> None:
    found = etcd.servers("192.0.2.1,[2001:db8::2]:4001,etcd.example.org:2380")
    assert found == [("192.0.2.1", 2379), ("2001:db8::2", 4001), ("etcd.example.org", 2380)]
