# SPDX-License-Identifier: Apache-2.0
"""Sockets of the REST interface: who may come, by which way, and what holds nobody up."""

import concurrent.futures
import grp
import os
import socket
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from container_stack import exceptions
from container_stack.drivers.osd import rest, servers
from container_stack.testing import memory_volumes

from . import osd_rest

KEEPERS = {"files": memory_volumes.MemoryVolumes}
MIB = 2**20


@pytest.fixture
def world(tmp_path: Path) -> Iterator[osd_rest.World]:
    with osd_rest.world(tmp_path / "state", KEEPERS, cluster_id="cstest") as made:
        yield made


def _hello(environ: Any, start: Any) -> list[bytes]:
    start("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def test_sockets_are_for_owner_and_group(tmp_path: Path) -> None:
    group = grp.getgrgid(os.getgroups()[-1] if os.getuid() else 1).gr_name
    server = servers.Server(_hello, str(tmp_path / "s"), group=group).start()
    found = os.stat(tmp_path / "s")
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert grp.getgrgid(found.st_gid).gr_name == group
    server.stop()
    assert os.listdir(tmp_path) == []


def test_group_that_is_not_there_is_named(tmp_path: Path) -> None:
    server = servers.Server(_hello, str(tmp_path / "s"), group="cstest-none")
    with pytest.raises(exceptions.HostNotReady, match="no group cstest-none"):
        server.start()
    assert os.listdir(tmp_path) == []


def test_socket_of_a_dead_daemon_is_replaced_and_that_of_a_new_one_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    old = servers.Server(_hello, path).start()
    new = servers.Server(_hello, path).start()
    old.stop()
    assert osd_rest.Client(osd_rest.unix(path)).raw("GET", "/")[2] == b"hello"
    new.stop()
    new.stop()
    assert os.listdir(tmp_path) == []


def test_inherited_socket_is_served_and_stays(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    listening = servers.listen(path)
    server = servers.Server(_hello, path, inherited=listening).start()
    assert osd_rest.Client(osd_rest.unix(path)).raw("GET", "/")[2] == b"hello"
    server.stop()
    assert os.listdir(tmp_path) == ["s"]


def test_answers_come_while_all_changes_hang(world: osd_rest.World) -> None:
    client = world.driver("files")
    made = [client.create(f"v{number}") for number in range(20)]
    with (
        concurrent.futures.ThreadPoolExecutor(20) as pool,
        osd_rest.hanging(world, "files", "mount") as hung,
    ):
        asked = [
            pool.submit(osd_rest.change, world.driver("files"), each, mount=2) for each in made
        ]
        osd_rest.until(lambda: len(hung) == rest.Settings("").slow_threads)
        started = time.monotonic()
        for _ in range(20):
            assert osd_rest.inspect(client, made[0])["ID"] == made[0]
        assert (time.monotonic() - started) / 20 < 1
        hung.append("end")
    assert {each.result()["error"] for each in asked} == {""}


def test_what_is_instant_needs_no_thread(tmp_path: Path) -> None:
    end = threading.Event()

    def answer(environ: Any, start: Any) -> list[bytes]:
        if environ["PATH_INFO"] != "/instant":
            end.wait(60)
        start("200 OK", [("Content-Length", str(len(environ["PATH_INFO"])))])
        return [environ["PATH_INFO"].encode()]

    path = str(tmp_path / "s")
    server = servers.Server(
        answer, path, threads=1, slow_threads=1, is_instant=lambda _method, path: path == "/instant"
    ).start()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        ask = lambda method, path: osd_rest.Client(osd_rest.unix(server.path)).raw(method, path)[2]  # noqa: E731
        hung = [pool.submit(ask, method, "/hangs") for method in ("GET", "PUT") * 2]
        assert [ask("GET", "/instant") for _ in range(20)] == [b"/instant"] * 20
        assert not any(each.done() for each in hung)
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(60)
            one.connect(path)
            for each in ("/instant", "/hangs", "/instant"):
                one.sendall(f"GET {each} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            end.set()
            said = b""
            while said.count(b"/") < 6:
                said += one.recv(10_000)
            assert [line.rpartition(b"/")[2] for line in said.split(b"HTTP")[1:]] == [
                b"instant",
                b"hangs",
                b"instant",
            ]
        assert [each.result() for each in hung] == [b"/hangs"] * 4
    server.stop()


def test_stop_finishes_what_runs(tmp_path: Path) -> None:
    going = threading.Event()

    def slowly(environ: Any, start: Any) -> list[bytes]:
        going.set()
        time.sleep(0.5)
        return _hello(environ, start)

    path = str(tmp_path / "s")
    server = servers.Server(slowly, path).start()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        asked = pool.submit(osd_rest.Client(osd_rest.unix(path)).raw, "GET", "/")
        going.wait(30)
        server.stop()
        assert asked.result()[2] == b"hello"


def test_six_parallel_creates_make_one(world: osd_rest.World) -> None:
    body = {"locator": {"Name": "data"}, "spec": {"Size": MIB}}
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        clients = [world.driver("files") for _ in range(6)]
        answers = list(pool.map(lambda each: each.ask("POST", "/v1/volumes", body), clients))
    assert sorted(bool(each["id"]) for each in answers) == [False] * 5 + [True]
    assert len(world.driver("files").ask("GET", "/v1/volumes")) == 1


def test_half_a_request_holds_nobody_up(world: osd_rest.World) -> None:
    path = rest.driver_socket(str(world.state_dir), "files")
    lazy = []
    for _ in range(50):
        one = socket.socket(socket.AF_UNIX)
        one.connect(path)
        one.sendall(b"POST /v1/volumes HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{")
        lazy.append(one)
    assert world.driver("files").ask("GET", "/v1/volumes") == []
    for one in lazy:
        one.close()


# TCP --------------------------------------------------------------------------------------------


@pytest.fixture
def tcp(tmp_path: Path) -> Iterator[osd_rest.World]:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "server.pem"))
    pem = str(tmp_path / "server.pem")
    settings = rest.Tcp("127.0.0.1", 0, pem, pem, "cstest-token")
    with osd_rest.world(tmp_path / "state", KEEPERS, cluster_id="cstest", tcp=settings) as made:
        yield made


def over_tcp(world: osd_rest.World, tmp_path: Path, token: str, base: str = "") -> osd_rest.Client:
    connection = osd_rest.tls(world.rest.port, str(tmp_path / "ca.pem"))
    headers = {"Authorization": token} if token else {}
    return osd_rest.Client(connection, base, headers)


def test_tcp_serves_all_drivers_to_who_has_the_token(tcp: osd_rest.World, tmp_path: Path) -> None:
    files = over_tcp(tcp, tmp_path, "Bearer cstest-token", "/driver/files")
    made = files.create("data")
    assert osd_rest.inspect(tcp.driver("files"), made)["ID"] == made
    big = [files.create(f"v{number}") for number in range(60)]
    assert len(files.ask("GET", "/v1/volumes")) == 1 + len(big)
    cluster = over_tcp(tcp, tmp_path, "Bearer cstest-token", "/cluster")
    assert cluster.ask("GET", "/v1/cluster")["Id"] == "cstest"
    assert cluster.status("GET", "/../driver/files/v1/volumes")[0] == 404


@pytest.mark.parametrize("token", ["", "Bearer ", "Bearer wrong", "cstest-token", "Bearer \xe9"])
def test_tcp_is_closed_without_the_token(tcp: osd_rest.World, tmp_path: Path, token: str) -> None:
    status, said = over_tcp(tcp, tmp_path, token).status("GET", "/driver/files/v1/volumes")
    assert (status, said) == (401, "Unauthorized: a token is needed.\n")


def test_tcp_without_tls_gets_nothing(tcp: osd_rest.World) -> None:
    with socket.create_connection(("127.0.0.1", tcp.rest.port), timeout=30) as plain:
        plain.sendall(b"GET /driver/files/v1/volumes HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(1000)


def test_handshakes_that_never_end_hold_nobody_up(tcp: osd_rest.World, tmp_path: Path) -> None:
    lazy = [socket.create_connection(("127.0.0.1", tcp.rest.port)) for _ in range(50)]
    client = over_tcp(tcp, tmp_path, "Bearer cstest-token", "/driver/files")
    assert client.ask("GET", "/v1/volumes") == []
    for one in lazy:
        one.close()


def test_socket_behind_tls_is_for_the_daemon_alone(tcp: osd_rest.World) -> None:
    found = os.stat(tcp.state_dir / "cluster" / "tls.sock")
    assert stat.S_IMODE(found.st_mode) == 0o600


def test_tcp_needs_a_certificate_and_a_token(tmp_path: Path) -> None:
    wrong = rest.Tcp("127.0.0.1", 0, str(tmp_path / "none.pem"), str(tmp_path / "none.pem"), "t")
    with (
        pytest.raises(exceptions.HostNotReady, match=r"none\.pem"),
        osd_rest.world(tmp_path, KEEPERS, tcp=wrong),
    ):
        pass
    assert os.listdir(tmp_path / "driver") == []
    with (
        pytest.raises(exceptions.InvalidRequest, match="token"),
        osd_rest.world(tmp_path, KEEPERS, tcp=rest.Tcp("127.0.0.1", 0, "", "", "")),
    ):
        pass
    assert "secret" not in repr(rest.Tcp("", 0, "", "", "secret"))
