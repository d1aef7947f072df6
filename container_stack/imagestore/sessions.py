# SPDX-License-Identifier: Apache-2.0
"""Attached app instances: our initiator is in the access list as long as it has to be.

All processes of a host share one initiator, so the last of them to be done takes it out. Each
holds a shared lock on the app instance's file; whoever then gets it alone is the last. The file
stays as long as our initiator may be in the list: a crash's is found by :meth:`Sessions.recover`.
"""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator

from container_stack import exceptions
from container_stack.host import attach, locks
from container_stack.imagestore import edf

LOG = logging.getLogger(__name__)

#: Times that a target may refuse our initiator before we believe it: another host that changed
#: the access list in the same moment may have overwritten us.
ATTEMPTS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """An attached app instance; ``close`` lets go of it and is to be called once."""

    device: attach.BlockDevice
    close: Callable[[], None]


class Sessions:
    """Attaches app instances of one array; threads and processes of this host may share them.

    :param directory: shared by all processes of this host.
    """

    def __init__(self, client: edf.Client, attacher: attach.Attacher, directory: str) -> None:
        self._client = client
        self._attacher = attacher
        self._directory = os.path.join(directory, attacher.initiator.replace("/", "_"))

    def open(self, name: str, *, read_only: bool = False) -> Session:
        """Attach an app instance that is online.

        :raises NotFound: there is none.
        """
        with contextlib.ExitStack() as undo:
            seat = locks.lock(self._path(name), shared=True)
            undo.callback(self._leave, name, seat)
            device = self._attach(name, read_only)
            undo.callback(_close, name, device)
            return Session(device, undo.pop_all().close)

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[None]:
        """Keep this host from deleting an app instance."""
        fd = locks.lock(self._path(name), shared=True)
        try:
            yield
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """Keep this host from attaching an app instance.

        :raises Busy: it is attached.
        """
        path = self._path(name)
        try:
            fd = locks.lock(path, wait=False)
        except exceptions.Busy as exc:
            raise exceptions.Busy(f"{name} is attached on this host.") from exc
        try:
            yield
            os.unlink(path)
        finally:
            os.close(fd)

    def recover(self) -> None:
        """Take our initiator out of the access lists where processes died."""
        for name in sorted(os.listdir(self._made())):
            with contextlib.suppress(exceptions.Busy):
                path = self._path(name)
                if not self._retire(name, path, locks.lock(path, wait=False)):
                    return

    def _attach(self, name: str, read_only: bool) -> attach.BlockDevice:
        for attempt in range(1, ATTEMPTS + 1):
            self._client.allow(name, self._attacher.initiator)
            self._client.wait_available(name)
            try:
                return self._attacher.attach(self._client.target(name), read_only=read_only)
            except (exceptions.AccessDenied, exceptions.NotFound):
                # Some targets tell a stranger that they don't exist.
                if attempt == ATTEMPTS:
                    raise
                LOG.debug("%(name)s refused us; asking once more", {"name": name})
        raise AssertionError("not reached")

    def _leave(self, name: str, seat: int) -> None:
        path = self._path(name)
        if locks.lock_alone(seat, path):
            self._retire(name, path, seat)
        else:
            os.close(seat)

    def _retire(self, name: str, path: str, fd: int) -> bool:
        try:
            self._client.disallow(name, self._attacher.initiator)
            os.unlink(path)
            return True
        except (exceptions.ContainerStackError, OSError) as exc:
            LOG.warning(
                "%(iqn)s stays in the access list of %(name)s for now: %(why)s",
                {"iqn": self._attacher.initiator, "name": name, "why": exc},
            )
            return False
        finally:
            os.close(fd)

    def _path(self, name: str) -> str:
        return os.path.join(self._made(), name)

    def _made(self) -> str:
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        return self._directory


def _close(name: str, device: attach.BlockDevice) -> None:
    try:
        device.close()
    except exceptions.ContainerStackError as exc:
        LOG.warning("Could not detach %(name)s: %(why)s", {"name": name, "why": exc})
