# SPDX-License-Identifier: Apache-2.0
"""CIFS shares before the kernel's client, by SMB 3.1.1; the server is what the image holds."""

import contextlib
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from container_stack.shares import cifs, protocol
from container_stack.testing import share_protocol_contract as contract

from . import share_server, share_world
from .nfs_server import needs_nfs

pytestmark = needs_nfs

MIB = 1024**2
#: "nosharesock": a mount that is refused must not be let in by another one's session.
OPTIONS = "vers=3.1.1,seal,nosharesock,soft,echo_interval=2,actimeo=0,iocharset=utf8"
USERS = ("alice", "bob")
#: Writes numbers to a file, through one descriptor, and tells of those that were acknowledged. What
#: fails while the server is away is tried again.
WRITE = """
import contextlib, os, sys, time
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
number = 0
with open(sys.argv[2], "w") as told:
    while True:
        with contextlib.suppress(OSError):
            os.pwrite(file, number.to_bytes(8, "big"), 8 * number)
            os.fsync(file)
            print(number, file=told, flush=True)
            number += 1
        time.sleep(0.02)
"""


class KernelClient(contract.Client):
    """A mount of its own, as one user."""

    def __init__(
        self, machine: share_server.Machine, share: str, user: str, keys: Mapping[str, str]
    ) -> None:
        login = f"username={user},password={keys.get(user, 'unknown')}"
        self.point = machine.mount_cifs(share, f"{OPTIONS},{login}")
        self._machine = machine
        self._files: list[share_world.KernelFile] = []

    def open(self, name: str, *, write: bool) -> contract.File:
        flags = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        self._files.append(share_world.KernelFile(self.point / name, flags))
        return self._files[-1]

    def close(self) -> None:
        for each in self._files:
            each.close()
        self._machine.unmount(self.point)


class World(share_world.World):
    """One server and two machines, with a user on each."""

    @property
    def speaking(self) -> cifs.Samba:
        return cifs.Samba(self.server, "")  # type: ignore[arg-type]

    def rule(self, number: int, level: str = "rw") -> protocol.Rule:
        return cifs.Rule("user", USERS[number], level)

    def connect(self, number: int, share: str, answer: Mapping[str, str]) -> KernelClient:
        return KernelClient(self.machines[number], share, USERS[number], answer)


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    directory = tmp_path_factory.mktemp("shares")
    with share_server.world(directory, "2") as (server, machines):
        made = World(server, machines)
        made.start()
        yield made


class TestCifs(contract.ShareProtocolContract):
    @pytest.fixture
    def world(self, things: World) -> contract.World:
        return things


@pytest.fixture
def client(things: World) -> Iterator[KernelClient]:
    """A share that alice has mounted and may write to."""
    name = things.make_share()
    keys = things.speaking.set_share(name, [things.rule(0)])
    made = things.connect(0, name, keys)
    yield made
    made.close()
    things.speaking.remove_share(name)
    things.unmount(name)


def test_what_is_written_is_there_and_was_sealed_on_its_way(
    things: World, client: KernelClient
) -> None:
    source = random.Random(7)
    tree = {f"many/{number}": source.randbytes(number * 371) for number in range(40)}
    tree |= {"Grüße/日本": b"Moin", "empty": b"", "large": source.randbytes(5 * MIB + 5)}

    share_world.write_tree(client.point, tree)
    os.rename(client.point / "large", client.point / "moved")
    os.truncate(client.point / "moved", 3 * MIB)
    with pytest.raises(FileExistsError):
        os.open(client.point / "moved", os.O_CREAT | os.O_EXCL)

    tree["moved"] = tree.pop("large")[: 3 * MIB]
    assert share_world.read_tree(client.point) == tree
    [session] = things.speaking.sessions()
    assert (session.user, session.dialect) == ("alice", "SMB3_11")
    assert session.cipher.startswith("AES")
    [share] = session.shares
    assert share_world.read_tree(things.server.shares / share / "data") == tree


@pytest.mark.parametrize("options", ["vers=2.1", "vers=3.1.1,sec=none", "vers=1.0"])
def test_who_would_talk_openly_or_without_a_name_is_refused(
    things: World, client: KernelClient, options: str
) -> None:
    [share] = things.speaking.shares()
    with pytest.raises(OSError, match="mount"):
        things.machines[1].mount_cifs(share, f"{options},username=alice,password=guess")


def test_clients_see_that_a_share_has_grown(things: World, client: KernelClient) -> None:
    [share] = things.speaking.shares()
    before = _size(client.point)
    assert before < share_server.SIZE

    things.server.grow(share, 2 * share_server.SIZE)

    assert before < share_server.SIZE < _size(client.point) < 2 * share_server.SIZE


def test_full_share_says_so_and_goes_on_when_there_is_room(client: KernelClient) -> None:
    with pytest.raises(OSError, match="No space"):
        share_world.fill(client.point / "file")
    (client.point / "file").unlink()
    share_world.write_tree(client.point, {"file": b"calm sea"})


def test_an_open_file_outlives_a_kill_of_the_server(
    things: World, client: KernelClient, tmp_path: Path
) -> None:
    with writing(client.point / "log", tmp_path / "told") as acknowledged:
        share_server.until(lambda: len(acknowledged()) > 5)
        things.stop(kill=True)
        things.start()
        count = len(acknowledged())
        share_server.until(lambda: len(acknowledged()) > count + 5)
    [share] = things.speaking.shares()
    data = (things.server.shares / share / "data/log").read_bytes()
    kept = [n for n in acknowledged() if data[8 * n :][:8] == n.to_bytes(8, "big")]
    assert kept == acknowledged()


@contextlib.contextmanager
def writing(path: Path, told: Path) -> Iterator[Callable[[], list[int]]]:
    """Keep adding to one open file; lend what returns the numbers that are acknowledged.

    In a process of its own: another's child that closes its copy of the file would wait for the
    server, too, and that child may be the one that starts it.
    """
    told.touch()
    with subprocess.Popen([sys.executable, "-c", WRITE, path, told]) as process:
        try:
            yield lambda: list(map(int, told.read_text().split()))
            assert process.poll() is None
        finally:
            process.terminate()


def _size(point: Path) -> int:
    found = os.statvfs(point)
    return found.f_blocks * found.f_frsize
