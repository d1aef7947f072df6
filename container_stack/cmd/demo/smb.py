# SPDX-License-Identifier: Apache-2.0
"""The demo's SMB clients. Each has a connection of its own, as if on a machine of its own."""

import contextlib
import hashlib
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import smbclient
from smbprotocol import connection, exceptions, header, session, tree

#: What a server says to who may not come in.
REFUSALS = (
    header.NtStatus.STATUS_ACCESS_DENIED,
    header.NtStatus.STATUS_LOGON_FAILURE,
)
#: Seconds for a connection and for each answer.
PATIENCE = 20

# [MS-NLMP] 2.2.1.1: version 1 messages that name nobody.
_SIGNATURE = b"NTLMSSP\0"
_NEGOTIATE = struct.pack("<8sII16x", _SIGNATURE, 1, 0x20088215)
# Type 3, an LM response of one zero byte, all else empty, NTLMSSP_NEGOTIATE_ANONYMOUS set.
_ANONYMOUS = struct.pack(
    "<8sI HHI HHI HHI HHI HHI HHI I s",
    _SIGNATURE,
    3,
    *(1, 1, 64),
    *((0, 0, 65) * 5),
    0x20088A15,
    b"\0",
)


class Client:
    """Somebody's connection to one share, signed and encrypted.

    :param location: ``\\\\ADDRESS\\SHARE``, as the driver exports it.
    """

    def __init__(self, location: str, user: str, password: str) -> None:
        self.location = location
        self._user = user
        self._password = password
        self._connections: dict[str, Any] = {}
        self._session: Any = None

    def __enter__(self) -> Self:
        self._session = smbclient.register_session(
            self.location.split("\\")[2],
            username=self._user,
            password=self._password,
            encrypt=True,
            auth_protocol="ntlm",
            connection_timeout=PATIENCE,
            connection_cache=self._connections,
        )
        return self

    def __exit__(self, *exc: object) -> None:
        # No goodbye: the server may have cut this session, and would be asked in vain.
        for each in self._connections.values():
            with contextlib.suppress(Exception):
                each.disconnect(close=False)

    @property
    def encrypted(self) -> bool:
        """Whether everything in this session is encrypted, in SMB 3.1.1."""
        newest = self._session.connection.dialect == connection.Dialects.SMB_3_1_1
        return bool(self._session.encrypt_data and newest)

    def write(self, name: str, data: bytes) -> None:
        """Write a file, over an older one if there is one."""
        with smbclient.open_file(self._path(name), mode="wb", **self._cache) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        """Return what a file holds."""
        with smbclient.open_file(self._path(name), mode="rb", **self._cache) as file:
            data: bytes = file.read()
            return data

    def write_refused(self, name: str) -> bool:
        """Tell whether the server says that this user may not write."""
        try:
            self.write(name, b"")
        except exceptions.SMBOSError as exc:
            return exc.ntstatus in REFUSALS
        return False

    def open(self, name: str, mode: str) -> Any:
        """Open a file, unbuffered and for others too, and leave it open."""
        path = self._path(name)
        return smbclient.open_file(path, mode=mode, buffering=0, share_access="rw", **self._cache)

    def volume_size(self) -> int:
        """Return how large the share is, in bytes, as its clients see it."""
        total: int = smbclient.stat_volume(self.location, **self._cache).total_size
        return total

    def write_tree(self, files: Mapping[str, Path]) -> int:
        """Write local files to these names in the share, and return how many bytes they had."""
        for directory in sorted({os.path.dirname(name) for name in files}):
            smbclient.makedirs(self._path(directory), exist_ok=True, **self._cache)
        total = 0
        for name, source in files.items():
            data = source.read_bytes()
            self.write(name, data)
            total += len(data)
        return total

    def tree(self, top: str) -> dict[str, str]:
        """Return the SHA-256 of every file below a directory of the share, by its name there."""
        found = {}
        for directory, _, names in smbclient.walk(self._path(top), **self._cache):
            for name in names:
                path = f"{directory}\\{name}".removeprefix(f"{self.location}\\")
                name_there = path.replace("\\", "/")
                found[name_there] = hashlib.sha256(self.read(name_there)).hexdigest()
        return found

    def remove(self, name: str) -> None:
        """Remove a file."""
        smbclient.remove(self._path(name), **self._cache)

    @property
    def _cache(self) -> dict[str, Any]:
        return {"username": self._user, "connection_cache": self._connections}

    def _path(self, name: str) -> str:
        return f"{self.location}\\{name}".replace("/", "\\").rstrip("\\")


def refused(location: str, user: str, password: str) -> bool:
    """Tell whether the server turns this user away, by its own words."""
    try:
        with Client(location, user, password) as client:
            client.volume_size()
    except (exceptions.AccessDenied, exceptions.LogonFailure):
        return True
    except exceptions.SMBAuthenticationError as exc:
        cause = exc.__cause__
        return isinstance(cause, exceptions.SMBResponseException) and cause.status in REFUSALS
    return False


def anonymous_refused(location: str) -> bool:
    """Tell whether the server turns away who names nobody, at the door or at the share."""
    _, _, server, share = location.split("\\")
    wire = connection.Connection(_guid(), server, 445, require_signing=False)
    wire.connect(timeout=PATIENCE)
    try:
        session_id = _log_in_as_nobody(wire)
        request = tree.SMB2TreeConnectRequest()
        request["buffer"] = f"\\\\{server}\\{share}".encode("utf-16-le")
        wire.receive(wire.send(request, sid=session_id), timeout=PATIENCE)
    except exceptions.SMBResponseException as exc:
        return exc.status in REFUSALS
    finally:
        wire.disconnect(close=False)
    return False


def _log_in_as_nobody(wire: Any) -> int:
    session_id = 0
    for token in (_NEGOTIATE, _ANONYMOUS):
        request = session.SMB2SessionSetupRequest()
        request["security_mode"] = wire.client_security_mode
        request["buffer"] = token
        sent = wire.send(request, sid=session_id, credit_request=64)
        try:
            answer = wire.receive(sent, timeout=PATIENCE)
        except exceptions.MoreProcessingRequired as exc:
            answer = exc.header
        session_id = answer["session_id"].get_value()
    return session_id


def _guid() -> Any:
    return smbclient.ClientConfig().client_guid
