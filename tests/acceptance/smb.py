# SPDX-License-Identifier: Apache-2.0
"""Real SMB clients: smbprotocol for everything, Samba's smbclient for those without a name."""

import contextlib
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self

import smbclient
from smbprotocol import exceptions, header

#: What a server says to who is not let in: at the door, at the share, or of a share that isn't.
_REFUSALS = (
    header.NtStatus.STATUS_LOGON_FAILURE,
    header.NtStatus.STATUS_ACCESS_DENIED,
    header.NtStatus.STATUS_BAD_NETWORK_NAME,
)
#: What a client sees whose session is cut under his hands, or who may not do what he tries.
FAILED = (exceptions.SMBException, OSError)
Tree = Mapping[str, bytes]

_BLOCK = 128 * 1024


class Client:
    """One user's connection to one share, shared with nobody.

    :param location: as exported: ``\\\\ADDRESS\\SHARE``.
    """

    def __init__(self, location: str, user: str, password: str | None) -> None:
        self._location = location
        self._user = user
        self._password = password
        self._cache: dict[str, Any] = {}

    def __enter__(self) -> Self:
        session = smbclient.register_session(
            self._location.split("\\")[2],
            username=self._user,
            password=self._password,
            auth_protocol="ntlm",
            connection_timeout=10,
            connection_cache=self._cache,
        )
        _notice_its_end(session.connection.transport._sock)
        return self

    def __exit__(self, *_exc: object) -> None:
        # The other side may have gone first.
        with contextlib.suppress(*FAILED):
            smbclient.reset_connection_cache(connection_cache=self._cache)

    def names(self) -> list[str]:
        """Return what is at the top of the share, sorted."""
        return sorted(smbclient.listdir(self._location, **self._options))

    def write(self, name: str, data: bytes) -> None:
        """Write a file, with the directories above it."""
        directory = self._path(name).rpartition("\\")[0]
        if directory != self._location:
            smbclient.makedirs(directory, exist_ok=True, **self._options)
        with smbclient.open_file(self._path(name), mode="wb", **self._options) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """Return a file's content."""
        with smbclient.open_file(self._path(name), mode="rb", **self._options) as file:
            data: bytes = file.read()
        return data

    @contextlib.contextmanager
    def open(self, name: str, mode: str) -> Iterator[Any]:
        """Hold a file open, without a buffer: each small write is done when it returns."""
        file = smbclient.open_file(self._path(name), mode=mode, buffering=0, **self._options)
        try:
            yield file
        finally:
            # A session that was cut can't even close its files.
            with contextlib.suppress(*FAILED):
                file.close()

    def write_tree(self, tree: Tree) -> None:
        """Write many files."""
        for name, data in tree.items():
            self.write(name, data)

    def read_tree(self) -> Tree:
        """Return all that is in the share."""
        found = {}
        for directory, _folders, names in smbclient.walk(self._location, **self._options):
            for name in names:
                path = f"{directory}\\{name}".removeprefix(f"{self._location}\\")
                found[path.replace("\\", "/")] = self.read(path)
        return found

    def size(self) -> int:
        """Return the size of the share's file system in bytes."""
        total: int = smbclient.stat_volume(self._location, **self._options).total_size
        return total

    @property
    def _options(self) -> dict[str, Any]:
        return {"username": self._user, "connection_cache": self._cache}

    def _path(self, name: str) -> str:
        return f"{self._location}\\{name}".replace("/", "\\")


def _notice_its_end(connection: socket.socket) -> None:
    """Have a connection fail some seconds after its server has gone without a word."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_KEEPIDLE, 2),
        (socket.TCP_KEEPINTVL, 1),
        (socket.TCP_KEEPCNT, 5),
        (socket.TCP_USER_TIMEOUT, 7000),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, option, value)


class Writer:
    """Appends blocks to a file, one after the other, until told to stop.

    :ivar failures: what went wrong; it goes no further then.
    :ivar slowest: seconds that the slowest block took.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.failures: list[Exception] = []
        self.slowest = 0.0
        self.blocks = 0
        self._client = client
        self._name = name
        self._stop = threading.Event()

    def run(self) -> None:
        """Write until the end; call in a thread."""
        try:
            with self._client.open(self._name, "wb") as file:
                while not self._stop.is_set():
                    start = time.monotonic()
                    file.write(self._block(self.blocks))
                    self.slowest = max(self.slowest, time.monotonic() - start)
                    self.blocks += 1
                    # Some 15 MB/s: it must be busy all the time, and not fill the share.
                    self._stop.wait(0.005)
                file.close()
        except FAILED as exc:
            self.failures.append(exc)

    def stop(self) -> None:
        """Let it write its last block."""
        self._stop.set()

    def expected(self) -> bytes:
        """Return what the file must hold."""
        return b"".join(map(self._block, range(self.blocks)))

    @staticmethod
    def _block(number: int) -> bytes:
        return number.to_bytes(8, "big") * (_BLOCK // 8)


@contextlib.contextmanager
def writing(client: Client, name: str) -> Iterator[Writer]:
    """Write to a file of the share while the body runs."""
    writer = Writer(client, name)
    thread = threading.Thread(target=writer.run)
    thread.start()
    try:
        while not writer.blocks and thread.is_alive():
            time.sleep(0.01)
        yield writer
    finally:
        writer.stop()
        thread.join(60)
        assert not thread.is_alive(), "A block has been on its way for a minute"


def refused(action: Callable[[], object]) -> bool:
    """Tell whether the server refuses an action by its own words, not by being away."""
    try:
        action()
    except exceptions.SMBOSError as exc:
        return exc.ntstatus in _REFUSALS
    except exceptions.SMBResponseException as exc:
        return exc.status in _REFUSALS
    return False


def enter_as(location: str, user: str, password: str | None) -> list[str]:
    """Enter a share and return the names at its top."""
    with Client(location, user, password) as client:
        return client.names()


def nobody_enters(location: str) -> bool:
    """Tell whether Samba's own client is refused without a name, and as a guest."""
    return all(
        "NT_STATUS_" in _smbclient(location, *how) for how in (["-N", "-U%"], ["-U", "guest%guest"])
    )


def _smbclient(location: str, *options: str) -> str:
    service = location.replace("\\", "/")
    argv = ["smbclient", service, *options, "--max-protocol=SMB3", "-c", "ls"]
    result = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert "CONNECTION_REFUSED" not in result.stdout, result.stdout
    return "" if result.returncode == 0 else result.stdout + result.stderr
