# SPDX-License-Identifier: Apache-2.0
"""The headers of a tar archive that a stranger made.

Python's tarfile reads on where the engine's reader (Go's archive/tar) gives up, ends silently at a
damaged header, and reads headers of any size into memory: it would show us another archive than
the engine unpacks. What is accepted here is what all readers understand alike: ustar, with names
as GNU or as pax write them. It is what every engine writes.
"""

import dataclasses
import enum
import functools
import re
import struct
import threading
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Protocol

from container_stack import exceptions

BLOCK = 512
#: Bytes of a header's extension; the engine's reader has the same limit.
EXTENSION = 1024 * 1024
#: Characters of a name, or of a link's target; the kernel takes no longer ones.
LONGEST = 4095
#: Prefix of the pax records that hold a file's extended attributes.
ATTRIBUTE = "SCHILY.xattr."

_END = bytes(BLOCK)
_FIELDS = struct.Struct("100s 8s 8s 8s 12s 12s 8s c 100s 8s 32s 32s 8s 8s 155s 12s")
_NAME, _MODE, _UID, _GID, _SIZE, _MTIME, _CHECKSUM, _TYPE = range(8)
_TARGET, _MAGIC, _UNAME, _GNAME, _MAJOR, _MINOR, _PREFIX, _PADDING = range(8, 16)
_NUMBERS = (_MODE, _UID, _GID, _SIZE, _MTIME, _CHECKSUM, _MAJOR, _MINOR)
_USTAR, _GNU = b"ustar\x0000", b"ustar  \0"
_OCTAL = re.compile(rb"[ \0]*([0-7]*)[ \0]*")
_RECORD = re.compile(rb"([1-9]\d{0,6}) ([^=\0]+)=")
_DIGITS = re.compile(r"\d{1,18}", re.ASCII)
_TIME = re.compile(r"\d{1,18}(\.\d*)?", re.ASCII)
_PAX, _LONG_NAME, _LONG_TARGET = b"x", b"L", b"K"
#: User and group IDs end before the one that means "leave as it is".
_LARGEST_ID = 2**32 - 2


class Kind(enum.Enum):
    """What a member is, as its header says it."""

    FILE = b"0"
    HARD_LINK = b"1"
    SYMLINK = b"2"
    CHARACTER_DEVICE = b"3"
    BLOCK_DEVICE = b"4"
    DIRECTORY = b"5"
    FIFO = b"6"


_KINDS: Mapping[bytes, Kind] = {kind.value: kind for kind in Kind} | {b"\0": Kind.FILE}


@dataclasses.dataclass(frozen=True, slots=True)
class Header:
    """One member.

    :param name: as written, whatever it is; bytes that are no UTF-8 are surrogates.
    :param mode: permissions with setuid, setgid and sticky bits.
    :param size: bytes of a file, 0 for all else.
    :param target: where a link leads, as written.
    :param offset: where in the source the bytes of a file begin.
    :param attributes: extended attributes, as bytes that are surrogates where they are no UTF-8.
    """

    name: str
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    target: str
    offset: int
    attributes: Mapping[str, str]


class Readable(Protocol):
    """What headers are read from, at growing offsets."""

    def read(self, offset: int, length: int) -> bytes:
        """Return a range.

        :raises InvalidRequest: there is no such range.
        """


class Source:
    """A file that many may read at once, each where it likes.

    :param file: seekable; whoever uses it elsewhere moves its position for us.
    :param size: its bytes.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        self._file = file
        self._lock = threading.Lock()

    def read(self, offset: int, length: int) -> bytes:
        """Return a range.

        :raises InvalidRequest: the file ends before.
        """
        if offset + length > self.size:
            raise cut_off(offset + length)
        with self._lock:
            self._file.seek(offset)
            data = self._file.read(length)
            while len(data) < length:
                more = self._file.read(length - len(data))
                if not more:
                    raise cut_off(offset + length)
                data += more
        return data

    def chunks(self, offset: int, length: int, chunk: int = 1024 * 1024) -> Iterator[bytes]:
        """Yield a range in pieces."""
        end = offset + length
        while offset < end:
            data = self.read(offset, min(chunk, end - offset))
            offset += len(data)
            yield data


def cut_off(offset: int) -> exceptions.InvalidRequest:
    return exceptions.InvalidRequest(
        f"The archive is cut off: it ends before byte {offset}; save and upload it again."
    )


def headers(source: Readable, start: int, end: int) -> Iterator[Header]:
    """Yield the headers of the archive in a range of a source, in their order.

    Nothing but headers is read, so that a gigabyte takes no longer than a byte.

    :raises InvalidRequest: it is damaged, cut off, or in a form that readers don't agree about.
    """
    offset = start
    extensions: dict[bytes, bytes] = {}
    while True:
        if offset + BLOCK > end:
            raise cut_off(offset + BLOCK)
        block = source.read(offset, BLOCK)
        offset += BLOCK
        if block == _END:
            _check_end(source, offset, end, extensions)
            return
        fields = _Fields(block, offset - BLOCK)
        if fields.type in (_PAX, _LONG_NAME, _LONG_TARGET):
            size = fields.numbers[_SIZE]
            if size > EXTENSION or fields.type in extensions:
                raise fields.bad("extended without end")
            if offset + size > end:
                raise cut_off(offset + size)
            extensions[fields.type] = _extension(fields, source.read(offset, size))
        else:
            header = _header(fields, extensions, offset)
            size = header.size
            extensions = {}
            if offset + size > end:
                raise cut_off(offset + size)
            yield header
        offset += -(-size // BLOCK) * BLOCK


def _extension(fields: "_Fields", data: bytes) -> bytes:
    if fields.type != _PAX and not data.endswith(b"\0"):
        # Some readers would look for its end in what follows.
        raise fields.bad("extended by a name without an end")
    return data


def _check_end(source: Readable, offset: int, end: int, extensions: Mapping[bytes, bytes]) -> None:
    if extensions or offset + BLOCK > end:
        raise cut_off(offset + BLOCK)
    if source.read(offset, BLOCK) != _END:
        raise exceptions.InvalidRequest(f"The archive goes on after its end, at byte {offset}.")


class _Fields:
    """The fields of one block."""

    def __init__(self, block: bytes, offset: int) -> None:
        self._fields = _FIELDS.unpack(block)
        self._offset = offset
        self.type: bytes = self._fields[_TYPE]
        magic, prefix, padding = (self._fields[each] for each in (_MAGIC, _PREFIX, _PADDING))
        # Where POSIX has a prefix GNU may have times: readers tell them apart in different ways.
        if magic not in (_USTAR, _GNU) or any(padding) or (magic == _GNU and any(prefix)):
            raise self.bad("neither as POSIX nor as GNU has it")
        #: By field; readers look at all of them, in extensions too.
        self.numbers = {field: _number(self._fields[field]) for field in _NUMBERS}
        if min(self.numbers.values()) < 0:
            raise self.bad("damaged: a field should be a number and isn't")
        checksum = sum(block) - sum(self._fields[_CHECKSUM]) + 8 * ord(" ")
        if self.numbers[_CHECKSUM] != checksum:
            raise self.bad("damaged: its checksum is another")

    def text(self, field: int) -> bytes:
        data: bytes = self._fields[field]
        return data.split(b"\0", 1)[0]

    def bad(self, what: str) -> exceptions.InvalidRequest:
        return exceptions.InvalidRequest(f"The tar header at byte {self._offset} is {what}.")


@functools.lru_cache(maxsize=4096)
def _number(field: bytes) -> int:
    """Return a number, octal or as GNU writes large ones; -1 for what is none."""
    if field[0] == 0x80:
        value = int.from_bytes(field[1:], "big")
        return value if value < 2**63 else -1
    match = _OCTAL.fullmatch(field)
    return int(match[1] or b"0", 8) if match else -1


def _header(fields: _Fields, extensions: Mapping[bytes, bytes], offset: int) -> Header:
    kind = _KINDS.get(fields.type)
    if kind is None:
        raise fields.bad(f"of a type that images don't have: {fields.type!a}")
    if _PAX in extensions and len(extensions) > 1:
        raise fields.bad("extended in two ways")
    name, prefix = fields.text(_NAME), fields.text(_PREFIX)
    records = _records(extensions[_PAX], fields) if _PAX in extensions else {}
    path = extensions.get(_LONG_NAME, prefix + b"/" + name if prefix else name)
    target = extensions.get(_LONG_TARGET, fields.text(_TARGET))
    header = Header(
        name=records.get("path") or _decode(path.split(b"\0", 1)[0]),
        kind=kind,
        mode=fields.numbers[_MODE] & 0o7777,
        uid=int(records.get("uid", fields.numbers[_UID])),
        gid=int(records.get("gid", fields.numbers[_GID])),
        size=int(records.get("size", fields.numbers[_SIZE])),
        target=records.get("linkpath") or _decode(target.split(b"\0", 1)[0]),
        offset=offset,
        attributes={
            key.removeprefix(ATTRIBUTE): value
            for key, value in records.items()
            if key.startswith(ATTRIBUTE)
        },
    )
    if max(len(header.name), len(header.target)) > LONGEST:
        raise fields.bad("of a name that is too long")
    if kind is Kind.FILE and header.name.endswith("/"):
        raise fields.bad("a file that is named as a directory")
    if kind is not Kind.FILE and header.size:
        raise fields.bad("of something that has no content, and has some")
    if max(header.uid, header.gid) > _LARGEST_ID:
        raise fields.bad("of an owner that can't be")
    return header


def _records(data: bytes, fields: _Fields) -> dict[str, str]:
    """Return the records of a pax header."""
    found: dict[str, str] = {}
    position = 0
    while position < len(data):
        match = _RECORD.match(data, position)
        end = position + int(match[1]) if match else 0
        if match is None or not match.end() < end <= len(data) or data[end - 1] != ord("\n"):
            raise fields.bad("extended in a way that can't be read")
        key, value = _decode(match[2]), _decode(data[match.end() : end - 1])
        if key in found or not _sane(key, value):
            raise fields.bad(f"extended by {key[:80]!a} in a way that readers don't agree about")
        found[key] = value
        position = end
    return found


def _sane(key: str, value: str) -> bool:
    if key in ("uid", "gid", "size"):
        return bool(_DIGITS.fullmatch(value))
    if key in ("mtime", "atime", "ctime"):
        return bool(_TIME.fullmatch(value))
    if key in ("path", "linkpath", "uname", "gname"):
        return bool(value) and "\0" not in value
    return key != "hdrcharset" and not key.startswith("GNU.")


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")
