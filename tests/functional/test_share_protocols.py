# SPDX-License-Identifier: Apache-2.0
"""CIFS and NFS keep the contract of share servers' protocols, in one server that speaks both."""

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator, Mapping

import pytest
from smbprotocol import exceptions as smb_exceptions

from container_stack.host import containers
from container_stack.shares import cifs, nfs, protocol
from container_stack.testing import share_protocol_contract as contract

from . import nfs_client, smb_client
from .share_server import NET4, ShareServer, on_network
from .share_server import make_server as make_server
from .share_server import network as network
from .share_server import samba_image as samba_image

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")

#: The last byte of the second client's address.
SECOND = 200
SPEAKS = {"protocols": ("CIFS", "NFS"), "nfs_minor_versions": (0, 1, 2)}


@pytest.fixture(scope="module")
def server(make_server: Callable[..., ShareServer]) -> ShareServer:
    return make_server(**SPEAKS)


@pytest.fixture(scope="module")
def second(
    engine: containers.Engine, network: str, samba_image: str, test_labels: Mapping[str, str]
) -> Iterator[str]:
    """The network namespace of a machine with an address of its own."""
    spec = containers.ContainerSpec(
        name=f"cstest-{uuid.uuid4().hex[:8]}",
        image=samba_image,
        labels=test_labels,
        entrypoint=("/usr/bin/tini", "--", "sleep", "1000000"),
        command=(),
    )
    container_id = engine.run(on_network(spec, network, SECOND))
    sandbox = engine.inspect(container_id).sandbox
    assert sandbox
    yield sandbox
    engine.remove(container_id)


class SharesWorld(contract.World):
    """What is the same for both protocols."""

    kind: type[protocol.Protocol]

    def __init__(self, server: ShareServer) -> None:
        self.server = server

    @property
    def speaking(self) -> protocol.Protocol:
        return self.kind(self.server.engine, self.server.id)

    def make_share(self) -> str:
        name = f"share-{uuid.uuid4().hex[:8]}"
        self.server.mount(name)
        return name

    def unmount(self, share: str) -> None:
        self.server.unmount(share)

    def mount(self, share: str) -> None:
        self.server.mount_again(share)

    def stop(self, *, kill: bool) -> None:
        if kill:
            self.server.engine.kill(self.server.id)
        self.server.engine.stop(self.server.id)

    def start(self) -> None:
        self.server.engine.start(self.server.id)
        self.speaking.wait_ready(60)


class SmbFile(contract.File):
    def __init__(self, file: smb_client.File) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        with _os_errors():
            self._file.write(data)

    def read(self) -> bytes:
        with _os_errors():
            return self._file.read(65536)


class SmbClient(contract.Client):
    def __init__(self, client: smb_client.Client) -> None:
        self._client = client

    def open(self, name: str, *, write: bool) -> SmbFile:
        with _os_errors():
            return SmbFile(self._client.open(name, write=write))

    def close(self) -> None:
        with contextlib.suppress(OSError, smb_exceptions.SMBException):
            self._client.close()


@contextlib.contextmanager
def _os_errors() -> Iterator[None]:
    try:
        yield
    except smb_exceptions.SMBException as exc:
        raise OSError(str(exc)) from exc


class SmbWorld(SharesWorld):
    kind = cifs.Samba

    def rule(self, number: int, level: str = "rw") -> cifs.Rule:
        return cifs.Rule("user", ("alice", "bob")[number], level)

    def connect(self, number: int, share: str, answer: Mapping[str, str]) -> SmbClient:
        user = ("alice", "bob")[number]
        with _os_errors():
            return SmbClient(
                smb_client.Client(self.server.address, share, user, answer.get(user, "0" * 40))
            )


class NfsFile(contract.File):
    def __init__(self, file: nfs_client.File) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    def read(self) -> bytes:
        return self._file.read()


class NfsClient(contract.Client):
    def __init__(self, mount: nfs_client.Mount) -> None:
        self._mount = mount

    def open(self, name: str, *, write: bool) -> NfsFile:
        if not write:
            return NfsFile(self._mount.open(name, os.O_RDONLY))
        try:
            return NfsFile(self._mount.open(name, os.O_RDWR))
        except FileNotFoundError:
            return NfsFile(self._mount.open(name, os.O_RDWR | os.O_CREAT))

    def close(self) -> None:
        self._mount.close()


class NfsWorld(SharesWorld):
    kind = nfs.Ganesha

    def __init__(self, server: ShareServer, second: str) -> None:
        super().__init__(server)
        self._sandboxes = (None, second)

    def rule(self, number: int, level: str = "rw") -> nfs.Rule:
        return nfs.Rule("ip", f"{NET4}.{(1, SECOND)[number]}", level)

    def connect(self, number: int, share: str, answer: Mapping[str, str]) -> NfsClient:
        address, sandbox = self.server.address, self._sandboxes[number]
        return NfsClient(nfs_client.Mount(address, share, sandbox=sandbox))


class TestCifs(contract.ShareProtocolContract):
    @pytest.fixture
    def world(self, server: ShareServer) -> contract.World:
        return SmbWorld(server)


class TestNfs(contract.ShareProtocolContract):
    @pytest.fixture
    def world(self, server: ShareServer, second: str) -> contract.World:
        return NfsWorld(server, second)
