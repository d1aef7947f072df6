# SPDX-License-Identifier: Apache-2.0
"""A portal of an iSCSI target that can be lost and meddled with: a proxy before the real one."""

import contextlib
import socket
import struct
import threading
from collections.abc import Callable

_HEADER = 48
_SCSI_RESPONSE, _DATA_IN, _COMMAND = 0x21, 0x25, 0x01
_PREEMPTED = -2

#: Gets the opcode of a SCSI command and its answer, a PDU; returns what to send instead, or None
#: for nothing.
Meddler = Callable[[int, bytes], bytes | None]


class Portal:
    """Passes PDUs between initiators and a target.

    :param target: host and port of the real portal.
    :ivar meddle: changes answers of the target on their way; see :data:`Meddler`.
    :ivar preempt: gets a SCSI command's PDU; what it returns is the answer, None passes it on.
    :ivar frozen: nothing of what the target says is passed on.
    :ivar connections: how many initiators came, ever.
    :ivar most_under_way: most commands that were unanswered at once.
    """

    def __init__(self, target: tuple[str, int], host: str = "127.0.0.1") -> None:
        self._target = target
        self._host = host
        self._port = 0
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.meddle: Meddler | None = None
        self.preempt: Callable[[bytes], bytes | None] | None = None
        self.frozen = False
        self.connections = 0
        self.most_under_way = 0
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
                    (initiator, target, self._ask),
                    (target, initiator, self._answer),
                ):
                    pump = (source, sink, pass_on, commands)
                    threading.Thread(target=_pump, args=pump, daemon=True).start()

    def _ask(
        self, pdu: bytes, commands: dict[bytes, int], initiator: socket.socket
    ) -> bytes | None:
        number = pdu[16:20]
        if commands.get(number) == _PREEMPTED:
            return None
        if pdu[0] & 0x3F == _COMMAND:
            commands[number] = pdu[32]
            under_way = sum(1 for each in commands.values() if each >= 0)
            self.most_under_way = max(self.most_under_way, under_way)
            if self.preempt is not None and (answer := self.preempt(pdu)):
                commands[number] = _PREEMPTED
                initiator.sendall(answer)
                return None
        return pdu

    def _answer(
        self, pdu: bytes, commands: dict[bytes, int], _target: socket.socket
    ) -> bytes | None:
        if self.frozen:
            return None
        if pdu[0] & 0x3F not in (_SCSI_RESPONSE, _DATA_IN):
            return pdu
        opcode = commands.get(pdu[16:20], -1)
        if pdu[0] & 0x3F == _SCSI_RESPONSE or pdu[1] & 0x01:
            commands.pop(pdu[16:20], None)
        return pdu if self.meddle is None else self.meddle(opcode, pdu)


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


def refusal(command: bytes, status: int, key: int, code: int) -> bytes:
    """Return an answer to a SCSI command that the target hasn't seen."""
    header = bytearray(_HEADER)
    header[16:20] = command[16:20]
    header[24:28] = command[28:32]  # the status number that the initiator expects
    header[28:32] = (int.from_bytes(command[24:28], "big") + 1).to_bytes(4, "big")
    header[32:36] = (int.from_bytes(command[24:28], "big") + 64).to_bytes(4, "big")
    answer = bytearray(failure(bytes(header), status, key, code))
    answer[24:36] = header[24:36]
    return bytes(answer)


def _pump(
    source: socket.socket,
    sink: socket.socket,
    pass_on: Callable[[bytes, dict[bytes, int], socket.socket], bytes | None],
    commands: dict[bytes, int],
) -> None:
    with contextlib.suppress(OSError):
        while header := _receive(source, _HEADER):
            length = int.from_bytes(header[5:8], "big")
            data = _receive(source, header[4] * 4 + length + -length % 4)
            pdu = pass_on(header + data, commands, source)
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
