# SPDX-License-Identifier: Apache-2.0
"""Subvolumes that tenants make inside theirs, kept within the limit of the one that they are in.

Any user may make subvolumes where he may make directories, and the kernel limits none of them:
each has a quota group of its own. Groups of a higher level don't help. The user says himself which
of those his new subvolume joins (BTRFS_SUBVOL_QGROUP_INHERIT), also where quotas are simple ones,
which would else do it for him; and a snapshot of a subvolume that is in one makes the whole file
system be counted anew.

So somebody has to look. sysfs shows a new group at once; from then on all subvolumes of a volume
have limits whose sum is the volume's own: each may take what it has, and an equal part of what is
left. Who fills his part is given another one at the next look.
"""

import collections
import logging
import os
import threading
from collections.abc import Iterator

from container_stack.host import btrfs_quota, records

LOG = logging.getLogger(__name__)

#: Subvolumes in a volume that get parts of what is left; of more, each keeps what it has.
_MOST = 64
#: Looks at a group before it counts as one whose subvolume is gone: its place is known a moment
#: later than it is there.
_LOOKS = 5


class Nested:
    """The subvolumes inside those in one directory; safe under threads.

    Of a volume that has some a note says what it may take itself, while its own limit says less.

    :param directory: where notes are kept, on the file system.
    :param top: of the volumes.
    """

    def __init__(self, directory: str, top: str, quota: btrfs_quota.Quota) -> None:
        self._notes = records.Records(os.path.join(directory, "limits"))
        self._top = top
        self._quota = quota
        self._lock = threading.Lock()
        self._own: dict[str, int] = {}
        self._seen: frozenset[int] = frozenset()
        self._looks: collections.Counter[int] = collections.Counter()

    def look(self) -> None:
        """See which there are, and share out what their volumes may take.

        To be called again and again by one thread: unless there are some, it looks into a
        directory.
        """
        there = self._quota.ids()
        found: dict[str, list[int]] = {}
        for each, name in self._new(there):
            found.setdefault(name, []).append(each)
        for name in sorted({*found, *self._notes.names()}):
            with self._lock:
                try:
                    self._note(name, found.get(name, []))
                    self._share(name, there)
                except FileNotFoundError:  # deleted meanwhile
                    self._notes.remove(name)

    def figures(self, name: str) -> btrfs_quota.Figures:
        """Return what a volume takes and may take, with all that is inside it."""
        own, note = self._quota.figures(self._path(name)), self._notes.read(name)
        if note is None:
            return own
        inside = sum(self._quota.figures_of(each).used for each in note["inside"])
        return btrfs_quota.Figures(own.used + inside, note["limit"])

    def limit(self, name: str, limit: int) -> None:
        """Let a volume take so many bytes, with all that is inside it."""
        with self._lock:
            note = self._notes.read(name)
            if note is None:
                self._quota.limit(self._path(name), limit)
                return
            self._notes.write(name, {**note, "limit": limit})
            self._share(name, self._quota.ids())

    def _new(self, there: frozenset[int]) -> Iterator[tuple[int, str]]:
        """Yield subvolumes that weren't there at the last look, with the volume they are in."""
        if there == self._seen:
            return
        self._own = dict(self._numbers())
        unknown = there - self._seen - {*self._own.values()}
        above, later = self._above() if unknown else "", set()
        for each in sorted(unknown):
            place = self._quota.place_of(each)
            if not place and self._looks[each] < _LOOKS:
                self._looks[each] += 1
                later.add(each)
            name, inside, _ = place.removeprefix(above).partition("/")
            if inside and name in self._own and place.startswith(above):
                yield each, name
        self._seen = there - later

    def _numbers(self) -> Iterator[tuple[str, int]]:
        for name in os.listdir(self._top):
            try:
                yield name, self._own.get(name) or self._quota.id_of(self._path(name))
            except FileNotFoundError:  # gone, or renamed
                continue

    def _above(self) -> str:
        """Return where the volumes lie on their file system, with a slash behind it."""
        for name, number in self._own.items():
            if (place := self._quota.place_of(number)).endswith(f"/{name}"):
                return place.removesuffix(name)
        return "/"  # with which nothing begins

    def _note(self, name: str, inside: list[int]) -> None:
        note, number = self._notes.read(name), self._quota.id_of(self._path(name))
        if note is not None and note["id"] != number:  # another has taken its place
            self._notes.remove(name)
            note = None
        if not inside:
            return
        if note is None:
            LOG.warning(
                "Volume %(name)s has subvolumes inside, with which it shares its limit",
                {"name": name},
            )
            limit = self._quota.figures_of(number).limit
            note = {"id": number, "limit": limit, "inside": []}
        self._notes.write(name, {**note, "inside": sorted({*note["inside"], *inside})})

    def _share(self, name: str, there: frozenset[int]) -> None:
        note = self._notes.read(name)
        if note is None or not note["limit"]:
            return
        number, inside = note["id"], [each for each in note["inside"] if self._lives(each, there)]
        if inside != note["inside"]:
            self._notes.write(name, {**note, "inside": inside})
        if not inside:
            self._quota.limit_group(number, note["limit"])
            self._notes.remove(name)
            return
        used = {each: self._quota.figures_of(each).used for each in (number, *inside)}
        left = max(0, note["limit"] - sum(used.values()))
        part = left // len(used) if len(used) <= _MOST else 0
        for each, bytes_ in used.items():
            wanted = bytes_ + part
            if self._quota.figures_of(each).limit != wanted:
                self._quota.limit_group(each, wanted)

    def _lives(self, each: int, there: frozenset[int]) -> bool:
        """Tell whether a subvolume is still there; before Linux 6.11 its group outlives it."""
        if each not in there:
            return False
        return bool(self._quota.figures_of(each).used or self._quota.place_of(each))

    def _path(self, name: str) -> str:
        return os.path.join(self._top, name)
