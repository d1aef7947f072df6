# SPDX-License-Identifier: Apache-2.0
"""Devices that a version 2 cgroup may use: programs that say so, and what we put before theirs.

With version 2 there is no list of devices: the kernel asks every program that is attached to the
cgroup, and all must agree (Linux, Documentation/admin-guide/cgroup-v2.rst, "Device controller").
So a device is allowed by exchanging each program for one that begins by admitting this device and
goes on as the old one; and denied by taking that beginning off again. An exchange is one step:
there is no moment without a program. Whoever may start programs can read them back, unless the
kernel blinds their constants.
"""

import contextlib
import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path

from container_stack import exceptions

# bpf(2), and include/uapi/linux/bpf.h of the kernel.
_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_LOAD, _ATTACH, _GET_FD, _GET_INFO, _QUERY = 5, 8, 13, 15, 16
_PROGRAM_KIND, _ATTACH_KIND = 15, 6
ALLOW_MULTI, _REPLACE = 2, 4
_BLOCK, _READ, _WRITE = 1, 2, 4
#: Bytes of a program, and programs of a cgroup, at most.
_LONGEST, _MOST = 8 * 65536, 64
#: Bytes of the structures that bpf(2) takes and fills, and more than any kernel's.
_ATTRIBUTES, _INFO = 160, 256

# Instructions: load a word of the context, set, mask, jump unless equal, return.
_WORD, _SET, _MASK, _UNLESS, _RETURN = 0x61, 0xB7, 0x57, 0x55, 0x95
_ONE = struct.Struct("=BBhi")

_libc = ctypes.CDLL(None, use_errno=True)


class Devices:
    """What a cgroup may use.

    :param cgroup: its directory.
    """

    def __init__(self, cgroup: Path) -> None:
        self._cgroup = cgroup

    def allow(self, number: int, *, read_only: bool) -> None:
        """Allow a block device, for this and nothing else; idempotent."""
        start = beginning(number, _READ if read_only else _READ | _WRITE)
        self._change(lambda code: start + without(code, number))

    def deny(self, number: int) -> None:
        """Deny a block device that was allowed here; idempotent."""
        self._change(lambda code: without(code, number))

    def _change(self, change: Callable[[bytes], bytes]) -> None:
        with contextlib.ExitStack() as opened:
            group = os.open(self._cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, group)
            flags, programs = _attached(group)
            for each in programs:
                old, _ = _bpf(_GET_FD, struct.pack("=III", each, 0, 0))
                opened.callback(os.close, old)
                code = _code(old)
                wanted = change(code)
                if wanted == code:
                    continue
                new = load(wanted)
                opened.callback(os.close, new)
                attach(group, new, flags=flags, instead=old)


def beginning(number: int, access: int) -> bytes:
    """Return instructions that admit a device, and let others through to what follows.

    What is asked has the kind of device with the access 16 bits higher, then the two numbers; r1
    leads to it.
    """
    steps = (
        (_WORD, 0x12, 4, 0),
        (_UNLESS, 2, 7, os.major(number)),
        (_WORD, 0x12, 8, 0),
        (_UNLESS, 2, 5, os.minor(number)),
        (_WORD, 0x12, 0, 0),
        # More access than is given, such as making nodes, leaves a bit.
        (_MASK, 2, 0, ~(access << 16)),
        (_UNLESS, 2, 2, _BLOCK),
        (_SET, 0, 0, 1),
        (_RETURN, 0, 0, 0),
    )
    return b"".join(_ONE.pack(*step) for step in steps)


def without(code: bytes, number: int) -> bytes:
    """Return a program without what admits a device at its beginning."""
    kept = b""
    length = 9 * _ONE.size
    while len(start := code[:length]) == length:
        steps = list(_ONE.iter_unpack(start))
        major, minor, access = steps[1][3], steps[3][3], ~steps[5][3] >> 16
        if major < 0 or minor < 0 or access not in (_READ, _READ | _WRITE):
            break
        found = os.makedev(major, minor)
        if start != beginning(found, access):
            break
        kept += b"" if found == number else start
        code = code[length:]
    return kept + code


def programs(cgroup: Path) -> list[bytes]:
    """Return the instructions of the programs that decide for a cgroup."""
    found = []
    with contextlib.ExitStack() as opened:
        group = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        opened.callback(os.close, group)
        for each in _attached(group)[1]:
            program, _ = _bpf(_GET_FD, struct.pack("=III", each, 0, 0))
            opened.callback(os.close, program)
            found.append(_code(program))
    return found


def attach(group: int, program: int, *, flags: int, instead: int = 0) -> None:
    """Let a program decide for a cgroup.

    :param flags: how programs are attached there.
    :param instead: the one that goes.
    """
    several = bool(flags & ALLOW_MULTI) and bool(instead)
    how, old = (flags | _REPLACE, instead) if several else (flags, 0)
    _bpf(_ATTACH, struct.pack("=5I", group, program, _ATTACH_KIND, how, old))


def _attached(group: int) -> tuple[int, list[int]]:
    """Return how programs are attached to a cgroup, and their ids."""
    room = ctypes.create_string_buffer(4 * _MOST)
    words = struct.pack("=4IQI", group, _ATTACH_KIND, 0, 0, ctypes.addressof(room), _MOST)
    _, answer = _bpf(_QUERY, words)
    flags, count = struct.unpack_from("=I", answer, 12)[0], struct.unpack_from("=I", answer, 24)[0]
    return flags, list(struct.unpack_from(f"={count}I", room.raw))


def _code(program: int) -> bytes:
    """Return a program's instructions.

    :raises NotSupported: the kernel doesn't tell them.
    """
    room = ctypes.create_string_buffer(_LONGEST)
    info = ctypes.create_string_buffer(_INFO)
    struct.pack_into("=IQQ", info, 20, _LONGEST, 0, ctypes.addressof(room))
    _bpf(_GET_INFO, struct.pack("=IIQ", program, _INFO, ctypes.addressof(info)))
    length: int = struct.unpack_from("=I", info, 20)[0]
    if not length or not struct.unpack_from("=Q", info, 32)[0]:
        raise exceptions.NotSupported(
            "This kernel hides the programs of cgroups (net.core.bpf_jit_harden=2): a server that "
            "runs can't be given a device."
        )
    return room.raw[:length]


def load(code: bytes) -> int:
    """Return a descriptor of a program of the kernel's, made of instructions."""
    room = ctypes.create_string_buffer(code, len(code))
    terms = ctypes.create_string_buffer(b"Apache-2.0")
    where = ctypes.addressof(room), ctypes.addressof(terms)
    words = struct.pack("=IIQQ", _PROGRAM_KIND, len(code) // _ONE.size, *where)
    return _bpf(_LOAD, words)[0]


def _bpf(command: int, words: bytes) -> tuple[int, bytes]:
    """Return what bpf(2) returns and what it wrote."""
    machine = os.uname().machine
    if machine not in _BPF:
        raise exceptions.NotSupported(f"On {machine} a server that runs can't be given a device.")
    room = ctypes.create_string_buffer(words, _ATTRIBUTES)
    result: int = _libc.syscall(_BPF[machine], command, room, _ATTRIBUTES)
    if result < 0:
        why = os.strerror(ctypes.get_errno())
        raise exceptions.NotSupported(
            f"The devices of a server that runs can't be changed: bpf {command}: {why}."
        )
    return result, room.raw
