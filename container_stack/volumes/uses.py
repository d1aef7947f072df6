# SPDX-License-Identifier: Apache-2.0
"""Who uses which volume on this host: kept on its own disk, for each volume one small record.

A record is written before anything is attached or mounted, and goes when nothing is any more. What
it says is to be so, whatever was killed in between: a path without holders is to be unmounted, and
a volume without paths that isn't attached on its own account is to be detached and let go.
"""

import dataclasses
import logging
import os
import time
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.host import abilities, records

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Use:
    """Somebody's use of a volume.

    :param holder: an ID of Docker's, or "" for who asked by REST or the command line.
    :param count: how often the holder mounted it, and has yet to unmount it.
    """

    volume_id: str
    path: str
    holder: str
    count: int


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """What this host has of a volume.

    :param fence: under which this host owns it.
    :param attached: somebody attached it without mounting it.
    :param device: its path; "" while it has none.
    :param paths: at which it is mounted; for each the holders with their counts.
    :param since: for each path, when it was last mounted: seconds since the host started.
    :param boot: the host's start in which this was written.
    """

    volume_id: str
    name: str
    read_only: bool = False
    fence: int = 0
    attached: bool = False
    device: str = ""
    paths: Mapping[str, Mapping[str, int]] = dataclasses.field(default_factory=dict)
    since: Mapping[str, float] = dataclasses.field(default_factory=dict)
    boot: str = ""

    @property
    def mount_paths(self) -> tuple[str, ...]:
        """The paths at which it is used, sorted."""
        return tuple(sorted(path for path, holders in self.paths.items() if holders))

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be undone."""
        return all(self.paths.values()) and bool(self.paths or self.attached)

    def reserve(self, path: str) -> "Held":
        """Return it with a path that nobody uses yet."""
        return dataclasses.replace(self, paths={**self.paths, path: {}})

    def more(self, path: str, holder: str) -> "Held":
        """Return it with one more use. Who has no ID uses a path once, however often he asks."""
        holders = dict(self.paths.get(path, {}))
        holders[holder] = holders.get(holder, 0) + 1 if holder else 1
        return dataclasses.replace(
            self,
            paths={**self.paths, path: holders},
            since={**self.since, path: time.clock_gettime(time.CLOCK_BOOTTIME)},
        )

    def less(self, path: str, holder: str, *, all_of: bool = False) -> "Held":
        """Return it with one use less, or with all of a holder's at a path."""
        holders = dict(self.paths.get(path, {}))
        left = holders.pop(holder, 0) - 1
        if left > 0 and not all_of:
            holders[holder] = left
        return dataclasses.replace(self, paths={**self.paths, path: holders})

    def without(self, path: str) -> "Held":
        """Return it without a path at which nothing is mounted any more."""
        paths = {each: holders for each, holders in self.paths.items() if each != path}
        since = {each: when for each, when in self.since.items() if each != path}
        return dataclasses.replace(self, paths=paths, since=since)

    def unused(self) -> "Held":
        """Return it without any use, so that all of it is to be undone."""
        return dataclasses.replace(self, attached=False, paths={path: {} for path in self.paths})

    def rebooted(self) -> "Held":
        """Return what is wanted after a new start of the host: Docker mounts its own again."""
        kept = {path: _of_nobody(holders) for path, holders in self.paths.items()}
        return dataclasses.replace(self, attached=False, paths=kept, device="")


class Uses:
    """The records of one driver's volumes. For each volume one writer at a time.

    A loss of power takes the mounts, too: nothing waits for the disk.

    :param directory: the driver's own, such as ``/var/lib/osd/uses/btrfs``.
    """

    def __init__(self, directory: str) -> None:
        self._records = records.Records(directory, durable=False)
        #: What was read, with the file's inode and time: each change makes a new file.
        self._read: dict[str, tuple[tuple[int, int], Held]] = {}

    def get(self, volume_id: str) -> Held | None:
        """Return what this host has of a volume, if anything."""
        try:
            found = os.stat(self._records.path(volume_id))
        except FileNotFoundError:
            self._read.pop(volume_id, None)
            return None
        stamp, held = self._read.get(volume_id, (None, None))
        if held is None or stamp != (found.st_ino, found.st_mtime_ns):
            held = self._parse(volume_id)
            if held is not None:
                self._read[volume_id] = ((found.st_ino, found.st_mtime_ns), held)
        return held

    def _parse(self, volume_id: str) -> Held | None:
        try:
            record = self._records.read(volume_id)
        except exceptions.InvalidRequest as exc:
            LOG.warning("Nothing is known of who uses a volume: %(why)s", {"why": exc})
            return None
        if record is None:
            return None
        names = {field.name for field in dataclasses.fields(Held)}
        known = {name: value for name, value in record.items() if name in names}
        return Held(**{"name": "", **known, "volume_id": volume_id})

    def put(self, held: Held) -> Held:
        """Remember what this host has, or is about to have."""
        record = {field.name: getattr(held, field.name) for field in dataclasses.fields(held)}
        self._records.write(held.volume_id, {**record, "boot": abilities.boot_id()})
        return held

    def remove(self, volume_id: str) -> None:
        """Forget a volume of which this host has nothing any more; idempotent."""
        self._records.remove(volume_id)

    def all(self) -> list[Held]:
        """Return what this host has, by the volumes' ids."""
        found = (self.get(volume_id) for volume_id in self._records.names())
        return [held for held in found if held is not None]

    def list(self, volume_id: str = "") -> list[Use]:
        """Return all uses, or a volume's, by the volumes' ids."""
        one = self.get(volume_id) if volume_id else None
        return [
            Use(held.volume_id, path, holder, count)
            for held in (filter(None, [one]) if volume_id else self.all())
            for path, holders in sorted(held.paths.items())
            for holder, count in sorted(holders.items())
        ]


def _of_nobody(holders: Mapping[str, int]) -> Mapping[str, int]:
    return {holder: count for holder, count in holders.items() if not holder}
