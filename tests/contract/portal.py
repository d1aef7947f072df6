# SPDX-License-Identifier: Apache-2.0
"""A portal of an iSCSI target that can be lost and meddled with: a proxy before the real one."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

_HEADER = 48
_SCSI_RESPONSE, _DATA_IN, _COMMAND = 0x21, 0x25, 0x01

#: Gets the opcode of a SCSI command and its answer, a PDU; returns what to send instead, or None
#: for nothing.
Meddler = Callable[[int, bytes], bytes | None]


class Portal:
    """Passes PDUs between initiators and a target.

    :param target: host and port of the real portal.
    :ivar meddle: changes answers of the target on their way; see :data:`Meddler`.
    :ivar connections: how many initiators came, ever.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._target = target
        self._host = host
        self._port = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.meddle: Meddler | None = None
        self.frozen = False
        self.connections = 0
        self.regain()

    @property
    def address(self) -> str:
        return f"[{self._host}]:{self._port}" if ":" in self._host else f"{self._host}:{self._port}"

    def lose(self) -> None:
        """Reset all connections, and refuse new ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            sockets, self._sockets = self._sockets, []
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for each in sockets:
            _reset(each)

    def regain(self) -> None:
        """Accept connections, at the same address as ever."""
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((self._host, self._port))
        listener.listen()
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                initiator, _address = listener.accept()
                target = socket.create_connection(self._target)
                for each in (initiator, target):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                with self._lock:
                    self.connections += 1
                    self._sockets += [initiator, target]
                    lost = self._listener is not listener
                if lost:
                    _reset(initiator)
                    _reset(target)
                    return
                commands: dict[bytes, int] = {}
                for source, sink, pass_on in (
                    (initiator, target, lambda pdu: _note(pdu, commands)),  # noqa: B023
                    (target, initiator, lambda pdu: self._answer(pdu, commands)),  # noqa: B023
                ):
                    threading.Thread(
                        target=_pump, args=(source, sink, pass_on), daemon=True
                    ).start()

    def _answer(self, pdu: bytes, commands: dict[bytes, int]) -> bytes | None:
        if self.frozen:
            return None
        if self.meddle is None or pdu[0] & 0x3F not in (_SCSI_RESPONSE, _DATA_IN):
            return pdu
        return self.meddle(commands.get(pdu[16:20], -1), pdu)


def failure(pdu: bytes, status: int, key: int = 0, code: int = 0) -> bytes:
    """Return a target's answer with another status, and sense data if it has a key."""
    sense = b""
    if key:
        sense = struct.pack(">BBBIBIHB", 0x70, 0, key, 0, 10, 0, code, 0) + bytes(3)
        sense = struct.pack(">H", len(sense)) + sense
    header = bytearray(pdu[:_HEADER])
    header[0], header[1], header[2], header[3] = _SCSI_RESPONSE, 0x80, 0, status
    header[4:8] = struct.pack(">I", len(sense))
    header[36:48] = bytes(12)
    return bytes(header) + sense + bytes(-len(sense) % 4)


def _note(pdu: bytes, commands: dict[bytes, int]) -> bytes:
    if pdu[0] & 0x3F == _COMMAND:
        commands[pdu[16:20]] = pdu[32]
    return pdu


def _pump(
    source: socket.socket, sink: socket.socket, pass_on: Callable[[bytes], bytes | None]
) -> None:
    with contextlib.suppress(OSError):
        while header := _receive(source, _HEADER):
            length = int.from_bytes(header[5:8], "big")
            pdu = pass_on(header + _receive(source, header[4] * 4 + length + -length % 4))
            if pdu is not None:
                sink.sendall(pdu)
    for each in (source, sink):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _receive(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = source.recv(length - len(data))
        if not more:
            raise ConnectionResetError
        data += more
    return data


def _reset(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        each.shutdown(socket.SHUT_RDWR)
    each.close()
