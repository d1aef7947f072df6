# SPDX-License-Identifier: Apache-2.0
"""SCSI commands as bytes, and what a target's answers mean.

SPC-4 and SBC-3 (t10.org) number everything here.
"""

import dataclasses
import struct

from container_stack import exceptions

GOOD, CHECK_CONDITION, RESERVATION_CONFLICT = 0x00, 0x02, 0x18
BUSY, TASK_SET_FULL, ACA_ACTIVE, TASK_ABORTED = 0x08, 0x28, 0x30, 0x40

NOT_READY, ILLEGAL_REQUEST, UNIT_ATTENTION = 0x02, 0x05, 0x06
DATA_PROTECT, ABORTED_COMMAND = 0x07, 0x0B

#: Additional sense codes with their qualifiers.
INVALID_OPCODE, OUT_OF_RANGE, NO_SUCH_UNIT, SPACE_EXHAUSTED = 0x2000, 0x2100, 0x2500, 0x2707
#: The additional sense code of a unit that isn't ready yet; its qualifier says why.
_BECOMING_READY, _NEEDS_AN_OPERATOR = 0x04, 0x0403


@dataclasses.dataclass(frozen=True, slots=True)
class Command:
    """One command.

    :param address: of the memory that is written from or read into.
    :param length: bytes there.
    :param memory: what keeps that memory in place.
    """

    cdb: bytes
    address: int = 0
    length: int = 0
    writes: bool = False
    memory: object = None


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What a target said to a command.

    :param status: SAM's status byte.
    :param key: the sense key after CHECK CONDITION.
    :param code: the additional sense code and its qualifier, ``0xAACC``.
    :param missing: bytes fewer than asked for.
    """

    status: int
    key: int = 0
    code: int = 0
    missing: int = 0

    @property
    def passing(self) -> bool:
        """Whether the same command may well succeed in a moment."""
        if self.status != CHECK_CONDITION:
            return self.status in (BUSY, TASK_SET_FULL, ACA_ACTIVE, TASK_ABORTED)
        if self.key == NOT_READY:
            return self.code >> 8 == _BECOMING_READY and self.code != _NEEDS_AN_OPERATOR
        return self.key in (UNIT_ATTENTION, ABORTED_COMMAND)

    @property
    def vanished(self) -> bool:
        """Whether the unit isn't there: never was, or is just being exchanged for a larger one."""
        return self._refused(NO_SUCH_UNIT)

    @property
    def unknown(self) -> bool:
        """Whether the target doesn't know the command."""
        return self._refused(INVALID_OPCODE)

    def error(self, name: str) -> exceptions.ContainerStackError | None:
        """Return this answer of target ``name`` as an error of ours; None if it is a success."""
        if self.status == GOOD:
            return None
        if self.status == RESERVATION_CONFLICT:
            return exceptions.Busy(f"Another host has reserved the volume of {name}.")
        if self.vanished:
            return exceptions.NotFound(f"{name} has no such volume.")
        if self._refused(OUT_OF_RANGE):
            return exceptions.InvalidRequest(f"That lies behind the end of the volume of {name}.")
        if self.status == CHECK_CONDITION and self.key == DATA_PROTECT:
            if self.code == SPACE_EXHAUSTED:
                return exceptions.NoSpace(f"No space left for the volume of {name}.")
            return exceptions.InvalidRequest(f"The volume of {name} is write-protected.")
        if self.status == CHECK_CONDITION and self.key == NOT_READY:
            return exceptions.ArrayUnavailable(f"The volume of {name} is offline.")
        return exceptions.ArrayUnavailable(f"{name} answers with {self}.")

    def __str__(self) -> str:
        if self.status != CHECK_CONDITION:
            return f"status {self.status:#04x}"
        return f"sense {self.key:#x}, {self.code:#06x}"

    def _refused(self, code: int) -> bool:
        return (self.status, self.key, self.code) == (CHECK_CONDITION, ILLEGAL_REQUEST, code)


def inquiry(length: int) -> bytes:
    """Ask what kind of device a unit is."""
    return struct.pack(">BBBHB", 0x12, 0, 0, length, 0)


def report_luns(length: int) -> bytes:
    """Ask for the numbers of a target's units."""
    return struct.pack(">BB4xIBB", 0xA0, 0, length, 0, 0)


def read_capacity(length: int) -> bytes:
    """Ask for the number of the last block and the size of each."""
    return struct.pack(">BBQIBB", 0x9E, 0x10, 0, length, 0, 0)


def read(block: int, blocks: int) -> bytes:
    """Read blocks."""
    return struct.pack(">BBQIBB", 0x88, 0, block, blocks, 0, 0)


def write(block: int, blocks: int) -> bytes:
    """Write blocks."""
    return struct.pack(">BBQIBB", 0x8A, 0, block, blocks, 0, 0)


def synchronize_cache() -> bytes:
    """Bring all that was written onto stable storage."""
    return struct.pack(">BBIBHB", 0x35, 0, 0, 0, 0, 0)


def parse_luns(data: bytes) -> list[int]:
    """Return the units that REPORT LUNS lists, as the first two bytes of each number (SAM-5,
    4.7); units behind further levels are left out.
    """
    (length,) = struct.unpack_from(">I", data)
    ends = range(8, min(8 + length, len(data)) - 7, 8)
    return [
        struct.unpack_from(">H", data, at)[0] for at in ends if data[at + 2 : at + 8] == bytes(6)
    ]


def parse_capacity(data: bytes) -> tuple[int, int]:
    """Return a unit's size and that of its blocks, in bytes.

    :raises ArrayUnavailable: this can't be.
    """
    last, block = struct.unpack_from(">QI", data)
    if block not in (512, 1024, 2048, 4096) or last >= 2**63 // block:
        raise exceptions.ArrayUnavailable(f"A target claims blocks of {block} bytes up to {last}.")
    return (last + 1) * block, block


def is_disk(data: bytes) -> bool:
    """Return whether an INQUIRY's answer is that of a connected block device (SPC-4, 6.4.2)."""
    return data[0] == 0x00


def encode_lun(number: int) -> int:
    """Return the first two bytes of a unit's number: flat space from 256 on."""
    return number if number < 256 else 0x4000 | number
