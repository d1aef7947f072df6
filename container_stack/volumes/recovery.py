# SPDX-License-Identifier: Apache-2.0
"""Making true again what this host's records and the registry say, and ending all use of volumes.

Nothing here does anything for a volume at which all is well: 1,000 of them cost one look at the
mount table and one question to the registry.
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import time
from collections.abc import Iterator, Mapping, Sequence

from container_stack import exceptions
from container_stack.host import abilities
from container_stack.volumes import driver, lives, model, mounting, uses

LOG = logging.getLogger(__name__)

#: Seconds between attempts to end what doesn't end.
_PAUSE = 0.2
#: Volumes whose use is ended at the same time.
_AT_ONCE = 8
#: Of alerts.
MISSING = "Its data aren't there."


class Recovery:
    """What is done for one driver's volumes when something has ended that shouldn't have."""

    def __init__(self, of: driver.Driver, mounted: mounting.Mounting, begun: lives.Lives) -> None:
        self._driver = of
        self._uses = of.uses
        self._mounting = mounted
        self._lives = begun

    def start(self) -> None:
        """Finish or undo what was half-done; nothing is mounted."""
        self._driver.locks.sweep()
        for seen in self._uses.all():
            if not seen.settled or seen.boot != abilities.boot_id():
                self._settle(seen.volume_id)
        self.agree()

    def _settle(self, volume_id: str) -> None:
        with self._locked(volume_id) as free:
            held = self._uses.get(volume_id) if free else None
            if held is not None:
                if held.boot != abilities.boot_id():
                    self._uses.put(held.rebooted())
                self._mounting.settle_quietly(volume_id)

    # The registry ---------------------------------------------------------------------------

    def agree(self) -> None:
        """Make the registry and what is here say the same, if the registry answers."""
        try:
            volumes = self._driver.registry.list(self._driver.name)
            self.agree_on_uses(volumes)
            self._agree_on_volumes(volumes)
        except exceptions.ContainerStackError as exc:
            LOG.warning("The registry is compared later with what is here: %(why)s", {"why": exc})

    def agree_on_uses(self, volumes: Sequence[model.Volume]) -> None:
        """Make the registry say what this host's records say of their use."""
        node_id = self._driver.node_id
        owned = {each.id: each for each in volumes if each.attached_on == node_id}
        for volume_id in sorted({*owned, *(held.volume_id for held in self._uses.all())}):
            held, row = self._uses.get(volume_id), owned.get(volume_id)
            if held is None or row is None or not _says(row, held):
                with self._locked(volume_id) as free:
                    if free:
                        self._agree_on_use(volume_id)

    def _agree_on_use(self, volume_id: str) -> None:
        held = self._uses.get(volume_id)
        if held is None:
            self._driver.ownership.release(volume_id)
            return
        try:
            fence = self._driver.ownership.claim(volume_id).fence
            self._mounting.tell(self._uses.put(dataclasses.replace(held, fence=fence)))
        except (exceptions.Busy, exceptions.NotFound) as exc:
            # Another node has come to own it: what is here of it must go.
            LOG.warning("%(volume)s isn't ours: %(why)s", {"volume": held.name, "why": exc})
            self._uses.put(held.unused())
            self._mounting.settle_quietly(volume_id)

    def _agree_on_volumes(self, volumes: Sequence[model.Volume]) -> None:
        there = set(self._driver.backend.list())
        half = model.State.PENDING | model.State.DELETED
        for volume in volumes:
            if not self._driver.reaches(volume):
                continue
            if volume.state & half:
                if volume.node_id == self._driver.node_id:
                    self._lives.clean(volume.id)
            elif (volume.id in there) == (volume.status == model.Status.NOT_PRESENT):
                self._set_present(volume.id, volume.id in there)

    def _set_present(self, volume_id: str, present: bool) -> None:
        status = model.Status.UP if present else model.Status.NOT_PRESENT
        self._driver.registry.update(volume_id, status=status)
        if present:
            self._driver.registry.clear_alerts(volume_id, MISSING)
        else:
            self._driver.registry.raise_alert(volume_id, model.Severity.ALARM, MISSING)

    # Reconciling ----------------------------------------------------------------------------

    def reconcile(self, live: Mapping[str, frozenset[str]] | None, grace: float) -> list[str]:
        """End the uses of the dead, and mount again what lost its mount; say what was done."""
        paths = None if live is None else frozenset().union(*live.values())
        newest = time.clock_gettime(time.CLOCK_BOOTTIME) - grace
        found = self._uses.all()
        there = self._driver.backend.mounted(path for held in found for path in held.paths)
        done: list[str] = []
        for seen in found:
            if seen.settled and not [*_dead(seen, paths, newest)] and {*seen.paths} <= there:
                continue
            with self._locked(seen.volume_id) as free:
                if free:
                    done += self._end_dead(seen.volume_id, paths, newest)
                    done += self._mount_lost(seen.volume_id, there)
        return done

    def _end_dead(
        self, volume_id: str, paths: frozenset[str] | None, newest: float
    ) -> Iterator[str]:
        held = self._uses.get(volume_id)
        if held is None:
            return
        for path, holder in [*_dead(held, paths, newest)]:
            held = self._uses.put(held.less(path, holder, all_of=True))
            yield f"{held.name}: {holder[:12]} lives no more; ended its use of {path}."
        if not held.settled and not self._mounting.settle_quietly(volume_id):
            yield f"{held.name}: couldn't be unmounted; this is tried again."

    def _mount_lost(self, volume_id: str, there: frozenset[str]) -> Iterator[str]:
        held = self._uses.get(volume_id)
        for path in () if held is None else held.mount_paths:
            if held is None or path in there:
                continue
            try:
                held = self._mounting.mount_again(held, path)
            except exceptions.ContainerStackError as exc:
                yield f"{held.name}: couldn't be mounted again at {path}: {exc}"
            else:
                yield f"{held.name}: mounted again at {path}."

    # Fencing --------------------------------------------------------------------------------

    def fence(self) -> None:
        """End all use here, and return when nothing is attached or mounted any more.

        The registry isn't asked, which may not answer; it is told later.
        """
        with concurrent.futures.ThreadPoolExecutor(_AT_ONCE, "fence") as pool:
            while not all([*pool.map(self._end, [held.volume_id for held in self._uses.all()])]):
                LOG.warning("%(driver)s is fenced and still in use", {"driver": self._driver.name})
                time.sleep(_PAUSE)

    def _end(self, volume_id: str) -> bool:
        try:
            with self._driver.locks.hold(volume_id, wait=False):
                held = self._uses.get(volume_id)
                if held is not None:
                    self._uses.put(held.unused())
                    self._mounting.end(volume_id)
                return True
        except exceptions.ContainerStackError as exc:
            LOG.warning("%(volume)s doesn't end: %(why)s", {"volume": volume_id, "why": exc})
        # Somebody has its lock and is perhaps stuck: what is mounted must go all the same.
        held = self._uses.get(volume_id)
        for path in () if held is None else held.paths:
            with contextlib.suppress(exceptions.ContainerStackError):
                self._driver.backend.unmount(volume_id, path)
        return False

    @contextlib.contextmanager
    def _locked(self, volume_id: str) -> Iterator[bool]:
        """Hold a volume's lock; or tell that somebody is at it, who knows better than we."""
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._driver.locks.hold(volume_id, wait=False))
            except exceptions.Busy:
                yield False
                return
            yield True


def _says(row: model.Volume, held: uses.Held) -> bool:
    """Tell whether the registry says of a volume what is so."""
    return (row.mount_paths, row.device_path) == (held.mount_paths, held.device)


def _dead(
    held: uses.Held, paths: frozenset[str] | None, newest: float
) -> Iterator[tuple[str, str]]:
    """Yield the uses at paths that nobody alive has, unless they are too new to be seen."""
    for path, holders in held.paths.items():
        if paths is not None and path not in paths and held.since.get(path, 0) <= newest:
            yield from ((path, holder) for holder in holders if holder)
