# SPDX-License-Identifier: Apache-2.0
"""Orders to a tgtd, through its control socket.

They are what ``tgtadm`` sends (tgt 1.0.85, usr/tgtadm.h): a structure, then a text. That program
takes CHAP secrets as arguments, which every process of a host may read; and starting it for each
order takes longer than the order.
"""

import dataclasses
import enum
import os
import socket
import struct
from pathlib import Path

from container_stack import exceptions


class Mode(enum.IntEnum):
    """What an order is about."""

    TARGET = 1
    UNIT = 2
    PORTAL = 3
    CONNECTION = 6
    ACCOUNT = 7


class Operation(enum.IntEnum):
    """What is to be done with it."""

    NEW = 0
    DELETE = 1
    SHOW = 2
    BIND = 3
    UNBIND = 4
    UPDATE = 5


#: Mode, operation, driver, length, target, session, unit, connection, host, type of device,
#: direction of an account, padding, force.
_REQUEST = struct.Struct("@II64sIiQQIIIIII")
#: Error, length.
_REPLY = struct.Struct("@II")

_ERRORS = {
    3: "can't find the driver",
    4: "can't find the target",
    5: "can't find the logical unit",
    6: "can't find the session",
    7: "can't find the connection",
    9: "this target already exists",
    10: "this logical unit already exists",
    12: "this access rule already exists",
    13: "this access rule does not exist",
    14: "this account already exists",
    15: "can't find the account",
    17: "invalid request",
    18: "this target already has an outgoing account",
    19: "this target is still active",
    20: "this logical unit is still active",
    22: "this operation isn't supported",
    23: "unknown parameter",
}
#: Somebody's command to the unit is under way.
UNIT_ACTIVE = 20


class Refusal(exceptions.ContainerStackError):
    """tgtd doesn't do what it was told.

    :param code: as in its usr/tgtadm_error.h.
    """

    def __init__(self, code: int, order: str) -> None:
        self.code = code
        super().__init__(f"tgtd refuses {order}: {_ERRORS.get(code, f'error {code}')}.")


@dataclasses.dataclass(frozen=True, slots=True)
class Control:
    """A tgtd that was started in a directory, with ``TGT_IPC_SOCKET`` set to a name there."""

    directory: Path
    name: str

    def order(
        self,
        mode: Mode,
        operation: Operation,
        text: str = "",
        *,
        tid: int = -1,
        sid: int = 0,
        lun: int = 2**64 - 1,
        cid: int = 0,
        outgoing: bool = False,
        force: bool = False,
    ) -> str:
        """Give an order and return what tgtd says.

        :raises Refusal: it can't be obeyed.
        :raises HostNotReady: no tgtd answers.
        """
        data = text.encode() + b"\0" if text else b""
        length = _REQUEST.size + len(data)
        request = _REQUEST.pack(
            mode, operation, b"iscsi", length, tid, sid, lun, cid, 0, 0, outgoing, 0, force
        )
        try:
            reply = self._exchange(request + data)
            code, length = _REPLY.unpack_from(reply)
        except (OSError, struct.error) as exc:
            raise exceptions.HostNotReady(f"The tgtd of {self.directory} doesn't answer.") from exc
        if code:
            raise Refusal(code, f"{operation.name.lower()} {mode.name.lower()}")
        return reply[_REPLY.size : length].rstrip(b"\0").decode(errors="replace")

    def _exchange(self, request: bytes) -> bytes:
        # Names of sockets are at most 107 bytes long; this one is, wherever the directory lies.
        directory = os.open(self.directory, os.O_PATH | os.O_CLOEXEC)
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(f"/proc/self/fd/{directory}/{self.name}.0")
                connection.sendall(request)
                reply = b""
                while more := connection.recv(65536):
                    reply += more
                return reply
        finally:
            os.close(directory)
