# SPDX-License-Identifier: Apache-2.0
"""Attaching and mounting volumes, and counting who uses them.

Each action first writes into the volume's record what it is about to do, so that
:meth:`Mounting.settle` can undo it: after a failure, a crash, or the end of the last use.
"""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.volumes import backend, driver, model, places, uses

LOG = logging.getLogger(__name__)


class Mounting:
    """What is attached and mounted here of one driver's volumes."""

    def __init__(self, of: driver.Driver) -> None:
        self._driver = of
        self._uses = of.uses
        self.places = places.Places(of.name, of.state_dir)

    # Mounts ---------------------------------------------------------------------------------

    def mount(self, volume_id: str, path: str, holder: str) -> str:
        """Mount a volume, or count one more use of a mount, and return its path."""
        volume_id = model.check_id(volume_id)
        self._driver.ownership.check()
        with self._driver.locks.hold(volume_id):
            held = self._uses.get(volume_id) or self._new(volume_id)
            path = self.places.resolve(path, held.name)
            if held.paths.get(path):
                # No question to the registry: it may be gone, and we own the volume.
                if path not in self._driver.backend.mounted([path]):
                    held = self.mount_again(held, path)
                self._uses.put(held.more(path, holder))
                return path
            with self._undoing(volume_id):
                self._mount_first(held, path, holder)
        LOG.info("Mounted %(volume)s at %(path)s", {"volume": volume_id, "path": path})
        self._driver.note("mount", volume_id, path)
        return path

    def unmount(self, volume_id: str, path: str, holder: str) -> None:
        """End one use; the last one at a path unmounts it. Without such a use, do nothing."""
        volume_id = model.check_id(volume_id)
        with self._driver.locks.hold(volume_id):
            held = self._uses.get(volume_id)
            if held is None:
                return
            path = self.places.resolve(path, held.name)
            if holder not in held.paths.get(path, {}):
                return
            less = self._uses.put(held.less(path, holder))
            if less.paths[path]:
                return
            try:
                self.settle(volume_id)
            except exceptions.ContainerStackError as exc:
                self._take_back(volume_id, path, holder, exc)
        LOG.info("Unmounted %(volume)s from %(path)s", {"volume": volume_id, "path": path})
        self._driver.note("unmount", volume_id, path)

    def mount_again(self, held: uses.Held, path: str) -> uses.Held:
        """Mount a volume where it was and is no more; the caller has its lock."""
        self._driver.ownership.check()
        held = self._uses.put(self._attach(held))
        self._mount(held, path)
        self.tell(held)
        return held

    def _mount_first(self, held: uses.Held, path: str, holder: str) -> None:
        with self.places.reserving(held, path):
            held = self._uses.put(held.reserve(path))
        held = self._attach(held)
        self._mount(held, path)
        # It may have taken long enough for this node to have lost its right to the volume.
        self._driver.ownership.check()
        held = self._uses.put(held.more(path, holder))
        self.tell(held)

    def _mount(self, held: uses.Held, path: str) -> None:
        # After the record is written: who fences this node sees one, or we see that it is fenced.
        self._driver.ownership.check()
        self._driver.backend.mount(held.volume_id, path, read_only=held.read_only)

    def _take_back(
        self, volume_id: str, path: str, holder: str, exc: exceptions.ContainerStackError
    ) -> None:
        """Count a use again that couldn't be ended; what was unmounted is settled later."""
        left = self._uses.get(volume_id)
        if left is not None and path in left.paths:
            self._uses.put(left.more(path, holder))
            raise exc
        LOG.warning("%(volume)s stays attached: %(why)s", {"volume": volume_id, "why": exc})

    # Devices --------------------------------------------------------------------------------

    def attach(self, volume_id: str) -> str:
        """Attach a block volume, and return its device's path; idempotent."""
        volume_id = model.check_id(volume_id)
        self._driver.ownership.check()
        self._blocks()
        with self._driver.locks.hold(volume_id):
            held = self._uses.get(volume_id) or self._new(volume_id)
            with self._undoing(volume_id):
                held = self._attach(self._uses.put(held), formatted=False)
                self._driver.ownership.check()
                held = self._uses.put(dataclasses.replace(held, attached=True))
                self.tell(held)
        self._driver.note("attach", volume_id, held.device)
        return held.device

    def detach(self, volume_id: str) -> None:
        """Detach a block volume; idempotent.

        :raises Busy: it is mounted; nothing was changed.
        """
        volume_id = model.check_id(volume_id)
        self._blocks()
        with self._driver.locks.hold(volume_id):
            held = self._uses.get(volume_id)
            if held is None:
                return
            if held.mount_paths:
                raise exceptions.Busy(f"Volume {held.name} is mounted: unmount it first.")
            self._uses.put(dataclasses.replace(held, attached=False))
            try:
                self.settle(volume_id)
            except exceptions.Busy:
                self._uses.put(held)
                raise
        self._driver.note("detach", volume_id)

    def format(self, volume_id: str, filesystem: str) -> None:
        """Make a file system on a block volume, which is attached meanwhile.

        :raises Busy: it is mounted; nothing was changed.
        """
        volume_id = model.check_id(volume_id)
        self._driver.ownership.check()
        self._blocks()
        with self._driver.locks.hold(volume_id):
            held = self._uses.get(volume_id) or self._new(volume_id)
            if held.mount_paths:
                raise exceptions.Busy(f"Volume {held.name} is mounted: unmount it first.")
            try:
                self._attach(self._uses.put(held), formatted=False)
                self._format(self._driver.get(volume_id), filesystem)
            finally:
                self.settle(volume_id)
        self._driver.note("format", volume_id, filesystem)

    def _new(self, volume_id: str) -> uses.Held:
        volume = self._driver.usable(volume_id)
        return uses.Held(volume.id, volume.name, read_only=volume.read_only)

    def _blocks(self) -> backend.BlockBackend:
        if not isinstance(self._driver.backend, backend.BlockBackend):
            raise exceptions.NotSupported(driver.NOT_SUPPORTED)
        return self._driver.backend

    def _attach(self, held: uses.Held, *, formatted: bool = True) -> uses.Held:
        """Own a volume and, if it is a block volume, attach it; its record says so already."""
        volume = self._driver.ownership.claim(held.volume_id)
        moved, held = volume.fence != held.fence, dataclasses.replace(held, fence=volume.fence)
        if isinstance(self._driver.backend, backend.BlockBackend):
            # Only what was owned is ever detached: it may be another node's.
            self._uses.put(held)
            if moved:
                self._driver.take(volume.id)
            held = dataclasses.replace(held, device=self._driver.backend.attach(volume.id))
            self._uses.put(held)
            if formatted and not volume.format:
                self._format(volume, "")
        return held

    def _format(self, volume: model.Volume, filesystem: str) -> None:
        wanted = (
            filesystem
            or volume.format
            or volume.spec.filesystem
            or self._driver.backend.filesystems[0]
        )
        self._blocks().format(volume.id, wanted)
        if volume.format != wanted:
            self._driver.registry.update(volume.id, fence=volume.fence, format=wanted)

    # Undoing --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _undoing(self, volume_id: str) -> Iterator[None]:
        """Undo what a record doesn't count as used if what follows fails."""
        with contextlib.ExitStack() as undo:
            undo.callback(self.settle_quietly, volume_id)
            yield
            undo.pop_all()

    def settle(self, volume_id: str) -> None:
        """Undo what is here of a volume and isn't used; the caller has its lock; idempotent.

        :raises Busy: somebody uses it unknown to us; :meth:`settle` again later.
        """
        held = self.end(volume_id)
        if held is None:
            return
        # Who releases a file volume says all there is to say.
        if held.settled or isinstance(self._driver.backend, backend.BlockBackend):
            with contextlib.suppress(exceptions.Busy):
                self.tell(held)
        if held.settled:
            return
        self._driver.ownership.release(volume_id)
        self._uses.remove(volume_id)

    def settle_quietly(self, volume_id: str) -> bool:
        """Settle, and return whether that worked; if not, it is tried again later."""
        try:
            self.settle(volume_id)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "What is left of %(volume)s is undone later: %(why)s",
                {"volume": volume_id, "why": exc},
            )
            return False
        return True

    def end(self, volume_id: str) -> uses.Held | None:
        """Unmount what isn't used, and detach it, without asking the registry anything."""
        held = self._uses.get(volume_id)
        if held is None:
            return None
        block = isinstance(self._driver.backend, backend.BlockBackend)
        for path in [path for path, holders in held.paths.items() if not holders]:
            self._driver.backend.unmount(volume_id, path)
            held = held.without(path)
            # The record of what was the last goes soon; if not, it is unmounted once more.
            if block or held.paths or held.attached:
                self._uses.put(held)
        owned = bool(held.fence)
        if owned and not held.settled and isinstance(self._driver.backend, backend.BlockBackend):
            self._driver.backend.detach(volume_id)
            held = self._uses.put(dataclasses.replace(held, device=""))
        return held

    def settle_later(self) -> None:
        """Undo what couldn't be undone when it was due."""
        for held in self._uses.all():
            if held.settled:
                continue
            lock = self._driver.locks.hold(held.volume_id, wait=False)
            with contextlib.suppress(exceptions.Busy), lock:  # somebody is at it
                self.settle_quietly(held.volume_id)

    # The registry ---------------------------------------------------------------------------

    def tell(self, held: uses.Held) -> None:
        """Tell the registry what is mounted here; if it can't be told now, it is later.

        :raises Busy: another node has come to own the volume.
        """
        state = model.State.ATTACHED if held.device else model.State.AVAILABLE
        try:
            self._driver.registry.update(
                held.volume_id,
                fence=held.fence,
                state=state,
                device_path=held.device,
                mount_paths=held.mount_paths,
            )
        except exceptions.ServiceUnavailable as exc:
            LOG.warning("The registry isn't told of a mount: %(why)s", {"why": exc})
        except exceptions.NotFound:
            LOG.warning("%(volume)s is in use and unknown", {"volume": held.volume_id})
