# SPDX-License-Identifier: Apache-2.0
"""An NFS client: libnfs, which keeps files open, and at an address of one's choice."""

import contextlib
import ctypes
import os
import time
import uuid
from collections.abc import Iterator

#: Flags of Linux.
_CREATE = os.O_RDWR | os.O_CREAT
_NEW_NETWORK = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


def _library() -> ctypes.CDLL:
    found = ctypes.CDLL("libnfs.so.13")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    long = ctypes.c_uint64
    for name, result, arguments in (
        ("nfs_init_context", pointer, ()),
        ("nfs_parse_url_dir", pointer, (pointer, text)),
        ("nfs_destroy_context", None, (pointer,)),
        ("nfs_get_error", text, (pointer,)),
        ("nfs_set_timeout", None, (pointer, number)),
        ("nfs_set_uid", None, (pointer, number)),
        ("nfs_set_gid", None, (pointer, number)),
        ("nfs4_set_client_name", None, (pointer, text)),
        ("nfs_mount", number, (pointer, text, text)),
        ("nfs_open2", number, (pointer, text, number, number, pointer)),
        ("nfs_pwrite", number, (pointer, pointer, long, long, text)),
        ("nfs_pread", number, (pointer, pointer, long, long, pointer)),
        ("nfs_close", number, (pointer, pointer)),
        ("nfs_chown", number, (pointer, text, number, number)),
        ("nfs_unlink", number, (pointer, text)),
        ("nfs_opendir", number, (pointer, text, pointer)),
        ("nfs_readdir", pointer, (pointer, pointer)),
        ("nfs_closedir", None, (pointer, pointer)),
    ):
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


@contextlib.contextmanager
def inside(sandbox: str | None) -> Iterator[None]:
    """Make this thread's new sockets in another network namespace, by its path."""
    if sandbox is None:
        yield
        return
    with open("/proc/thread-self/ns/net") as before, open(sandbox) as there:
        _enter(there.fileno())
        try:
            yield
        finally:
            _enter(before.fileno())


def _enter(fd: int) -> None:
    if _libc.setns(fd, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


class Mount:
    """One share, mounted over NFS 4.0: all that libnfs speaks.

    :param sandbox: path of the network namespace that the client is in.
    :raises OSError: by every method, as the server answered.
    """

    def __init__(
        self, address: str, share: str, *, uid: int = 0, sandbox: str | None = None
    ) -> None:
        self._nfs = _library()
        self._sandbox = sandbox
        self._context = self._nfs.nfs_init_context()
        host = f"[{address}]" if ":" in address else address
        # Only an URL says the version, and only one without brackets is understood.
        self._nfs.nfs_parse_url_dir(self._context, b"nfs://host/?version=4")
        # Two of one name would be one client, whose earlier life ends.
        self._nfs.nfs4_set_client_name(self._context, uuid.uuid4().hex.encode())
        self._nfs.nfs_set_timeout(self._context, 30_000)
        self._nfs.nfs_set_uid(self._context, uid)
        self._nfs.nfs_set_gid(self._context, uid)
        with inside(sandbox):
            self._check(
                self._nfs.nfs_mount(self._context, host.strip("[]").encode(), f"/{share}".encode())
            )

    def __enter__(self) -> "Mount":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._context:
            self._nfs.nfs_destroy_context(self._context)
        self._context = None

    def open(self, name: str, flags: int = _CREATE) -> "File":
        """Open a file; wait for the end of a grace period, as every client but libnfs does."""
        handle = ctypes.c_void_p()
        deadline = time.monotonic() + 120
        while True:
            try:
                self._call("open2", f"/{name}".encode(), flags, 0o660, ctypes.byref(handle))
            except OSError as exc:
                if "NFS4ERR_GRACE" not in str(exc) or time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return File(self, handle)

    def write(self, name: str, data: bytes) -> None:
        with self.open(name) as file:
            file.write(data)

    def read(self, name: str) -> bytes:
        with self.open(name, os.O_RDONLY) as file:
            return file.read()

    def remove(self, name: str) -> None:
        self._call("unlink", f"/{name}".encode())

    def chown(self, name: str, uid: int) -> None:
        self._call("chown", f"/{name}".encode(), uid, uid)

    def names(self) -> list[str]:
        directory = ctypes.c_void_p()
        self._call("opendir", b"/", ctypes.byref(directory))
        found = []
        while entry := self._nfs.nfs_readdir(self._context, directory):
            # struct nfsdirent begins with a pointer to the next, and one to the name.
            found.append(ctypes.cast(entry, ctypes.POINTER(ctypes.c_char_p))[1].decode())
        self._nfs.nfs_closedir(self._context, directory)
        return sorted(set(found) - {".", ".."})

    def _call(self, function: str, *arguments: object) -> int:
        with inside(self._sandbox):
            return self._check(getattr(self._nfs, f"nfs_{function}")(self._context, *arguments))

    def _check(self, answer: int) -> int:
        if answer < 0:
            raise OSError(-answer, self._nfs.nfs_get_error(self._context).decode())
        return answer


class File:
    """A file that stays open."""

    def __init__(self, mount: Mount, handle: ctypes.c_void_p) -> None:
        self._mount = mount
        self._handle = handle

    def __enter__(self) -> "File":
        return self

    def __exit__(self, *exc: object) -> None:
        self._mount._call("close", self._handle)

    def write(self, data: bytes, offset: int = 0) -> None:
        assert self._mount._call("pwrite", self._handle, offset, len(data), data) == len(data)

    def read(self, size: int = 65536, offset: int = 0) -> bytes:
        buffer = ctypes.create_string_buffer(size)
        length = self._mount._call("pread", self._handle, offset, size, buffer)
        return buffer.raw[:length]
