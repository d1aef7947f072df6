# SPDX-License-Identifier: Apache-2.0
"""Volumes over iSCSI without the kernel's help: no root, no device node, nothing on the host.

Whatever kills this process, the target sees its connection end and nothing is left. A volume that
was attached before a fork belongs to the parent; the child attaches its own.
"""

import logging
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import (
    attach,
    attach_names,
    attach_ranges,
    iscsi_requests,
    iscsi_worker,
    libiscsi,
    libiscsi_abi,
    pinned,
    scsi,
)

LOG = logging.getLogger(__name__)

#: Bytes of one command. Larger ones are slower: what is in flight then leaves the caches.
PIECE = 256 * 1024
#: Bytes of the commands that have one deadline together.
BATCH = 32 * 1024**2


class LibiscsiAttacher(attach.Attacher):
    """Attaches by libiscsi, in this process.

    :param timeout: see :class:`container_stack.host.attach.Options`.
    """

    def __init__(self, initiator: str, timeout: float) -> None:
        self._initiator = initiator
        self._timeout = timeout

    @classmethod
    def open(cls, options: attach.Options) -> "LibiscsiAttacher":
        """Make one from what an operator configured.

        :raises InvalidRequest: the initiator's name can't be one, or there is no time.
        """
        if options.timeout <= 0:
            raise exceptions.InvalidRequest("The timeout must be more than 0 s.")
        return cls(attach_names.initiator(options), options.timeout)

    @property
    def initiator(self) -> str:
        return self._initiator

    def check(self) -> Mapping[str, str]:
        libiscsi_abi.load()
        return {"libiscsi": libiscsi_abi.SONAME}

    def attach(self, target: attach.Target, *, read_only: bool = False) -> attach.BlockDevice:
        deadline = time.monotonic() + self._timeout
        session = Session(target, self._initiator, self._timeout)
        try:
            if target.lun is None:
                lun = _find_disk(session, deadline)
            else:
                lun = scsi.encode_lun(target.lun)
            device = LibiscsiDevice(session, lun, read_only, deadline)
        except BaseException:
            session.close()
            raise
        LOG.debug("Attached %(target)s by libiscsi", {"target": target.iqn})
        return device


class Session:
    """Commands for one target; threads may share it.

    :param timeout: seconds for one call of :meth:`run`.
    """

    def __init__(self, target: attach.Target, initiator: str, timeout: float) -> None:
        libiscsi_abi.load()
        if not target.portals:
            raise exceptions.InvalidRequest(f"{target.iqn} has no portal.")
        self.name = target.iqn
        self._timeout = timeout
        self._inbox = iscsi_requests.Inbox()
        # A share for each portal, and one for a second try.
        stall = timeout / (len(target.portals) + 1)
        login = libiscsi.Login(initiator, target.iqn, target.chap, secrets.randbits(24))
        worker = iscsi_worker.Worker(target.portals, login, self._inbox, stall)
        self._thread = threading.Thread(target=worker.run, name="iscsi", daemon=True)
        self._thread.start()
        weakref.finalize(self, self._inbox.close).atexit = False

    def run(
        self, lun: int, commands: Sequence[scsi.Command], deadline: float | None = None
    ) -> list[scsi.Answer]:
        """Return the answers to commands that may be executed in any order.

        :param deadline: on the monotonic clock; with one, every portal is tried just once.
            Without, they are tried again until the timeout is over.
        :raises ArrayUnavailable: there is no answer in time; likewise AccessDenied and NotFound.
        """
        if not commands:
            return []
        end = deadline or time.monotonic() + self._timeout
        request = iscsi_requests.Request(lun, commands, end, patient=deadline is None)
        self._inbox.put(request)
        return request.wait(self._timeout + 10)

    def ask(
        self,
        lun: int,
        make: Callable[[int], bytes],
        length: int,
        deadline: float | None = None,
    ) -> bytes:
        """Return what a target says, filled up with zeros.

        :param make: makes the command, for an answer of ``length`` bytes.
        """
        buffer = bytes(length)
        pin = pinned.Pin(buffer)
        command = scsi.Command(make(length), pin.address, length, memory=pin)
        self.check(self.run(lun, [command], deadline))
        return buffer

    def check(self, answers: Sequence[scsi.Answer]) -> None:
        """Raise the first answer that is an error."""
        for answer in answers:
            if error := answer.error(self.name):
                raise error

    def close(self) -> None:
        """Log out; takes a few seconds at most."""
        self._inbox.close()
        if self._inbox.mine and self._thread is not threading.current_thread():
            self._thread.join(iscsi_worker.FAREWELL + 5)


class LibiscsiDevice(attach.BlockDevice):
    """A volume at the end of a session."""

    def __init__(self, session: Session, lun: int, read_only: bool, deadline: float) -> None:
        self._session = session
        self._lun = lun
        self._read_only = read_only
        self._locks = attach_ranges.RangeLocks()
        self._size, self._block = self._capacity(deadline)

    @property
    def size(self) -> int:
        return self._size

    def read(self, offset: int, length: int) -> bytes:
        attach_ranges.check(self._size, offset, length)
        start, end = self._around(offset, offset + length)
        # Zeros, so that a target that sends less than it says shows nothing of our memory. Until
        # it is returned nobody else knows this object; so filling it is no change.
        buffer = bytes(end - start)
        self._transfer(start, buffer, writes=False)
        if (start, end) == (offset, offset + length):
            return buffer
        return buffer[offset - start : offset - start + length]

    def write(self, offset: int, data: attach.Buffer) -> None:
        view = memoryview(data).cast("B")
        attach_ranges.check(self._size, offset, len(view))
        if self._read_only:
            raise exceptions.InvalidRequest(f"{self._session.name} was attached to be read.")
        start, end = self._around(offset, offset + len(view))
        with self._locks.hold(start, end):
            self._write_within(start, end, offset, view)

    def flush(self) -> None:
        answers = self._session.run(self._lun, [scsi.Command(scsi.synchronize_cache())])
        # A target without the command has no cache that it would be for.
        self._session.check([each for each in answers if not each.unknown])

    def refresh(self) -> int:
        self._size, self._block = self._capacity()
        return self._size

    def close(self) -> None:
        self._session.close()

    def _capacity(self, deadline: float | None = None) -> tuple[int, int]:
        answer = self._session.ask(self._lun, scsi.read_capacity, 32, deadline)
        return scsi.parse_capacity(answer)

    def _around(self, start: int, end: int) -> tuple[int, int]:
        """Return where the blocks begin and end that hold a range."""
        return start // self._block * self._block, -(-end // self._block) * self._block

    def _write_within(self, start: int, end: int, offset: int, view: memoryview) -> None:
        """Write a range of the blocks from ``start`` to ``end``; the rest of them stays."""
        head = self._edge(start, offset, view) if start < offset else b""
        stop = offset + len(view)
        start += len(head)
        tail = self._edge(end - self._block, offset, view) if start < end and stop < end else b""
        end -= len(tail)
        self._transfer(start - len(head), head, writes=True)
        self._transfer(start, view[start - offset : end - offset], writes=True)
        self._transfer(end, tail, writes=True)

    def _edge(self, start: int, offset: int, view: memoryview) -> bytearray:
        """Return the block at ``start`` as it is to be once the range is written."""
        block = bytearray(self._block)
        self._transfer(start, block, writes=False)
        first, last = max(start, offset), min(start + self._block, offset + len(view))
        block[first - start : last - start] = view[first - offset : last - offset]
        return block

    def _transfer(self, start: int, buffer: attach.Buffer, *, writes: bool) -> None:
        """Read or write whole blocks."""
        pin, length = pinned.Pin(buffer), len(buffer)
        for batch in range(0, length, BATCH):
            pieces = range(batch, min(batch + BATCH, length), PIECE)
            commands = [
                self._command(start + at, pin, at, min(PIECE, length - at), writes) for at in pieces
            ]
            answers = self._session.run(self._lun, commands)
            self._session.check(answers)
            if any(answer.missing for answer in answers):
                raise exceptions.ArrayUnavailable(f"{self._session.name} moved too few bytes.")

    def _command(
        self, start: int, pin: pinned.Pin, at: int, length: int, writes: bool
    ) -> scsi.Command:
        make = scsi.write if writes else scsi.read
        cdb = make(start // self._block, length // self._block)
        return scsi.Command(cdb, pin.address + at, length, writes, pin)


def _find_disk(session: Session, deadline: float) -> int:
    """Return the number of the only unit that is a disk: LUN 0 may be a controller."""
    listed = scsi.parse_luns(session.ask(0, scsi.report_luns, 4096, deadline))
    disks = [lun for lun in listed if scsi.is_disk(session.ask(lun, scsi.inquiry, 36, deadline))]
    if not disks:
        raise exceptions.NotFound(f"{session.name} has no volume.")
    if len(disks) > 1:
        raise exceptions.InvalidRequest(f"{session.name} has {len(disks)} volumes; say which.")
    return disks[0]
