# SPDX-License-Identifier: Apache-2.0
"""What NFS promises beyond the contract of protocols, before real clients."""

import concurrent.futures
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator

import pytest

from container_stack import exceptions
from container_stack.shares import nfs

from . import nfs_client
from .share_server import NET4, NET6, ShareServer
from .share_server import make_server as make_server
from .share_server import network as network
from .share_server import samba_image as samba_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

MANY = 12


@pytest.fixture(scope="module")
def server(make_server: Callable[..., ShareServer]) -> ShareServer:
    return make_server(protocols=("CIFS", "NFS"), nfs_minor_versions=(0, 1, 2))


@pytest.fixture
def make_share(server: ShareServer) -> Iterator[Callable[[], str]]:
    made: list[str] = []

    def make() -> str:
        made.append(f"share-{uuid.uuid4().hex[:8]}")
        server.mount(made[-1])
        return made[-1]

    yield make
    for each in made:
        nfs.Ganesha(server.engine, server.id).remove_share(each)
        server.unmount(each)


def speaking(server: ShareServer) -> nfs.Ganesha:
    return nfs.Ganesha(server.engine, server.id)


def everybody(level: str = "rw") -> list[nfs.Rule]:
    return [nfs.Rule("ip", f"{NET4}.0/24", level), nfs.Rule("ip", f"{NET6}:/64", level)]


def names(address: str, share: str) -> list[str]:
    with nfs_client.Mount(address, share) as mount:
        return mount.names()


def test_the_smallest_network_counts(server: ShareServer, make_share: Callable[[], str]) -> None:
    share = make_share()
    rules = [*everybody(), nfs.Rule("ip", f"{NET4}.1", "ro")]
    speaking(server).set_share(share, rules)
    with nfs_client.Mount(server.address, share) as mount, pytest.raises(OSError, match="ROFS"):
        mount.write("file", b"no")
    speaking(server).set_share(share, [nfs.Rule("ip", "0.0.0.0/0", "ro"), rules[0]])
    with nfs_client.Mount(server.address, share) as mount:
        mount.write("file", b"yes")


def test_rules_for_one_family_admit_nobody_of_the_other(
    server: ShareServer, make_share: Callable[[], str]
) -> None:
    share, address6 = make_share(), server.spec.address6
    assert address6
    speaking(server).set_share(share, [nfs.Rule("ip", "::/0")])
    assert names(address6, share) == []
    with pytest.raises(OSError, match=r"NOENT|ACCESS"):
        names(server.address, share)
    speaking(server).set_share(share, [nfs.Rule("ip", "0.0.0.0/0")])
    assert names(server.address, share) == []
    with pytest.raises(OSError, match=r"NOENT|ACCESS"):
        names(address6, share)


@pytest.mark.parametrize(
    ("to", "admitted"),
    [(f"{NET6}:1", True), (f"{NET6}:1/128", True), (f"{NET6}:/99", True), (f"{NET6}:6/128", False)],
)
def test_addresses_and_networks_of_ipv6(
    server: ShareServer, make_share: Callable[[], str], to: str, admitted: bool
) -> None:
    share, address6 = make_share(), server.spec.address6
    assert address6
    speaking(server).set_share(share, [nfs.Rule("ip", to)])
    if admitted:
        assert names(address6, share) == []
        return
    with pytest.raises(OSError, match=r"NOENT|ACCESS"):
        names(address6, share)


def test_the_root_of_all_shows_only_what_a_client_may_use(
    server: ShareServer, make_share: Callable[[], str]
) -> None:
    mine, foreign = make_share(), make_share()
    speaking(server).set_share(mine, everybody())
    speaking(server).set_share(foreign, [nfs.Rule("ip", "192.0.2.0/24")])
    assert names(server.address, "") == [mine]


def test_files_belong_to_the_users_of_clients(
    server: ShareServer, make_share: Callable[[], str]
) -> None:
    share = make_share()
    speaking(server).set_share(share, everybody())
    data = server.directory / share / "data"
    with nfs_client.Mount(server.address, share, uid=1234) as mount:
        mount.write("hers", b"secret")
    assert (data / "hers").stat().st_uid == 1234
    (data / "hers").chmod(0o600)
    other = nfs_client.Mount(server.address, share, uid=1235)
    with other, pytest.raises(OSError, match="ACCES"):
        other.read("hers")
    with nfs_client.Mount(server.address, share) as mount:
        assert mount.read("hers") == b"secret"
        mount.chown("hers", 1235)
    assert (data / "hers").stat().st_uid == 1235


def test_killed_ganesha_is_started_again_with_all_shares(
    server: ShareServer, make_share: Callable[[], str]
) -> None:
    shares = [make_share() for _ in range(2)]
    for share in shares:
        speaking(server).set_share(share, everybody())
    server.run("killall", "-9", "ganesha.nfsd")
    # At once, while there is none.
    speaking(server).set_share(shares[0], everybody("ro"))
    speaking(server).wait_ready(60)
    for share in shares:
        assert names(server.address, share) == []
    assert speaking(server).shares()[shares[0]] == set(everybody("ro"))


def test_many_at_once(server: ShareServer, make_share: Callable[[], str]) -> None:
    shares = [make_share() for _ in range(3)]

    def change(number: int) -> None:
        speaking(server).set_share(shares[number % 3], everybody())

    with concurrent.futures.ThreadPoolExecutor(MANY) as pool:
        list(pool.map(change, range(MANY)))
    for share in shares:
        with nfs_client.Mount(server.address, share) as mount:
            mount.write("file", share.encode())
            assert mount.read("file") == share.encode()


def test_smbd_has_no_right_that_only_nfs_needs(server: ShareServer) -> None:
    said = server.run("cat", f"/proc/{_pid(server, 'smbd')}/status").stdout.decode()
    lines = dict(line.split(":\t") for line in said.splitlines())
    # FOWNER, SETGID, SETUID
    assert int(lines["CapBnd"], 16) == int(lines["CapEff"], 16) == 0b11001000


def _pid(server: ShareServer, program: str) -> str:
    return server.run("pidof", program).stdout.decode().split()[-1]


@pytest.mark.parametrize(
    "document", ["rw *\nend\n", "rw 10.0.0.0\nend\n", "rw 10.0.0.0/8; }\nend\n", "rw 10.0.0.0/8\n",
                 "all 10.0.0.0/8\nend\n", "rw @group\nend\n", "rw 10.0.0.0/8 10.1.0.0/16\nend\n"]
)  # fmt: skip
def test_documents_that_are_none_change_nothing(
    server: ShareServer, make_share: Callable[[], str], document: str
) -> None:
    share = make_share()
    result = server.run(nfs.NFS_SERVER, "set", share, stdin=document)
    assert result.exit_code == 2, result.stderr
    assert share not in speaking(server).shares()


def test_clients_without_sessions_are_refused_unless_asked_for(
    make_server: Callable[..., ShareServer],
) -> None:
    strict = make_server(protocols=("CIFS", "NFS"))
    with pytest.raises(OSError, match="MINOR"):
        names(strict.address, "")
    nobody = make_server()
    with pytest.raises(exceptions.CommandFailed):
        speaking(nobody).set_share("share-1", [])
    listed = subprocess.run(
        ["nfs-ls", f"nfs://{nobody.address}/"], capture_output=True, check=False
    )
    assert listed.returncode
