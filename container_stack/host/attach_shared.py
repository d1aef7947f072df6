# SPDX-License-Identifier: Apache-2.0
"""One attachment of a target for many users: counted, and gone with the last of them."""

import dataclasses
import threading
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.host import attach

_Key = tuple[attach.Target, bool]


@dataclasses.dataclass(slots=True)
class _Entry:
    """A target that somebody uses or is about to.

    ``lock`` is held while it is attached or detached: nobody gets a device on its way out.
    """

    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    users: int = 0
    device: attach.BlockDevice | None = None


class SharedAttachments(attach.Attacher):
    """An attacher whose devices are shared by all who attach the same target in the same mode.

    The first attaches through ``attacher``, the last to close detaches; whatever else ``attacher``
    does on either occasion, such as changing an access list, so happens once. Targets never wait
    for each other. A failed attach is its caller's alone: the next one tries anew.
    """

    def __init__(self, attacher: attach.Attacher) -> None:
        self._attacher = attacher
        self._lock = threading.Lock()
        self._entries: dict[_Key, _Entry] = {}

    @property
    def initiator(self) -> str:
        return self._attacher.initiator

    def users(self) -> Mapping[attach.Target, int]:
        """Return how many use each target now."""
        found: dict[attach.Target, int] = {}
        with self._lock:
            for (target, _read_only), entry in self._entries.items():
                found[target] = found.get(target, 0) + entry.users
        return found

    def attach(self, target: attach.Target, *, read_only: bool = False) -> attach.BlockDevice:
        key = (target, read_only)
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
        try:
            with entry.lock:
                if entry.device is None:
                    entry.device = self._attacher.attach(target, read_only=read_only)
                return _Handle(self, key, entry, entry.device)
        except BaseException:
            self.release(key, entry)
            raise

    def check(self) -> Mapping[str, str]:
        return self._attacher.check()

    def release(self, key: _Key, entry: _Entry) -> None:
        """Count one user less, and detach after the last. For handles."""
        with entry.lock:
            with self._lock:
                entry.users -= 1
                if entry.users:
                    return
            device, entry.device = entry.device, None
            try:
                if device is not None:
                    device.close()
            finally:
                with self._lock:
                    if not entry.users:
                        self._entries.pop(key, None)


class _Handle(attach.BlockDevice):
    """One user's share of a device."""

    def __init__(
        self, shared: SharedAttachments, key: _Key, entry: _Entry, device: attach.BlockDevice
    ) -> None:
        self._shared = shared
        self._key = key
        self._entry = entry
        self._device: attach.BlockDevice | None = device
        self._closing = threading.Lock()

    @property
    def size(self) -> int:
        return self._open().size

    def read(self, offset: int, length: int) -> bytes:
        return self._open().read(offset, length)

    def write(self, offset: int, data: attach.Buffer) -> None:
        self._open().write(offset, data)

    def flush(self) -> None:
        self._open().flush()

    def refresh(self) -> int:
        return self._open().refresh()

    def close(self) -> None:
        with self._closing:
            device, self._device = self._device, None
        if device is not None:
            self._shared.release(self._key, self._entry)

    def _open(self) -> attach.BlockDevice:
        device = self._device
        if device is None:
            raise exceptions.InvalidRequest(f"{self._key[0].iqn} is detached.")
        return device
