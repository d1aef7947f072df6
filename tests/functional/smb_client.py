# SPDX-License-Identifier: Apache-2.0
"""SMB clients: Samba's own smbclient, and one whose session and handles a test can hold open."""

import socket
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from unittest import mock

from smbprotocol import connection, session, tree
from smbprotocol import open as smb_open


def smbclient(
    address: str, share: str, user: str, password: str, commands: str, *options: str, cwd: Path
) -> subprocess.CompletedProcess[str]:
    """Run commands of smbclient; the password goes by a file."""
    login = cwd / f"login-{uuid.uuid4().hex}"
    login.write_text(f"username = {user}\npassword = {password}\n")
    argv = ["smbclient", f"//{address}/{share}", "-A", str(login), *options, "-c", commands]
    return subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=60, check=False)


class Client:
    """A session on one share.

    :param source: the address to come from, if not the usual one.
    """

    def __init__(
        self,
        address: str,
        share: str,
        user: str,
        password: str,
        *,
        source: str | None = None,
        dialect: connection.Dialects | None = None,
    ) -> None:
        self._path = rf"\\{address}\{share}"
        self._connection = connection.Connection(uuid.uuid4(), address, 445)
        with _from(source):
            self._connection.connect(dialect=dialect, timeout=5)
        self._session = session.Session(
            self._connection, user, password, require_encryption=True, auth_protocol="ntlm"
        )
        self._session.connect()
        self.reconnect()

    def reconnect(self, path: str | None = None) -> None:
        """Connect to the share, or another, within the same session."""
        self._tree = tree.TreeConnect(self._session, path or self._path)
        self._tree.connect()

    def open(self, name: str, *, write: bool = True) -> "File":
        return File(self._tree, name, write)

    def talk_in_the_clear(self, *, signed: bool) -> None:
        """Send what follows as a client would that doesn't know better."""
        self._session.encrypt_data = self._tree.encrypt_data = False
        self._session.signing_required = signed

    def close(self) -> None:
        self._connection.disconnect(close=False)


class File:
    """A file held open."""

    def __init__(self, where: tree.TreeConnect, name: str, write: bool) -> None:
        masks = smb_open.FilePipePrinterAccessMask
        self._open = smb_open.Open(where, name)
        self._open.create(
            smb_open.ImpersonationLevel.Impersonation,
            masks.FILE_READ_DATA | (masks.FILE_WRITE_DATA if write else 0),
            smb_open.FileAttributes.FILE_ATTRIBUTE_NORMAL,
            smb_open.ShareAccess.FILE_SHARE_READ | smb_open.ShareAccess.FILE_SHARE_WRITE,
            smb_open.CreateDisposition.FILE_OPEN_IF
            if write
            else smb_open.CreateDisposition.FILE_OPEN,
            smb_open.CreateOptions.FILE_NON_DIRECTORY_FILE,
        )

    def write(self, data: bytes) -> None:
        self._open.write(data, 0)

    def read(self, length: int) -> bytes:
        found: bytes = self._open.read(0, length)
        return found


@contextmanager
def _from(source: str | None) -> Iterator[None]:
    address = (source, 0) if source else None
    connect = partial(socket.create_connection, source_address=address)
    with mock.patch("smbprotocol.transport.socket.create_connection", connect):
        yield
