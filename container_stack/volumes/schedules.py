# SPDX-License-Identifier: Apache-2.0
"""Snapshots by the clock, of which only the newest are kept."""

import collections
import datetime
import logging
from collections.abc import Iterable, Sequence

from container_stack import exceptions
from container_stack.volumes import driver, lives, model

LOG = logging.getLogger(__name__)

#: The configuration label of scheduled snapshots; others are never deleted by a schedule.
MARK = {"container-stack.schedule": "yes"}
#: Of alerts.
FAILED = "A scheduled snapshot couldn't be made."


class Schedules:
    """The schedules of one driver's volumes."""

    def __init__(self, of: driver.Driver, begun: lives.Lives) -> None:
        self._driver = of
        self._lives = begun

    def run(self, volumes: Iterable[model.Volume], now: datetime.datetime) -> None:
        """Make the snapshots that are due, and delete those that aren't to be kept.

        However many were missed, one is made. A volume's node takes care of them: the one that
        uses it, or the one where it was made.
        """
        mine: list[model.Volume] = []
        taken: dict[str, list[model.Volume]] = collections.defaultdict(list)
        for volume in volumes:
            if volume.spec.snapshot_interval and self._is_mine(volume):
                mine.append(volume)
            if volume.read_only and volume.is_snapshot and _is_marked(volume):
                taken[volume.source.parent].append(volume)
        for volume in mine:
            self._run_one(volume, sorted(taken[volume.id], key=lambda each: each.created_at), now)

    def _is_mine(self, volume: model.Volume) -> bool:
        usable = not volume.state & (model.State.PENDING | model.State.DELETED)
        return usable and self._driver.node_id == (volume.attached_on or volume.node_id)

    def _run_one(
        self, volume: model.Volume, taken: list[model.Volume], now: datetime.datetime
    ) -> None:
        # What lies in the future was taken before a clock was set back.
        last = max((each.created_at for each in taken if each.created_at <= now), default=None)
        interval = datetime.timedelta(minutes=volume.spec.snapshot_interval)
        if now - (last or volume.created_at) >= interval:
            try:
                taken.append(self._take(volume, now))
            except exceptions.ContainerStackError as exc:
                self._tell(volume, exc)
                return
            self._driver.registry.clear_alerts(volume.id, FAILED)
        self._delete(taken[: -volume.spec.snapshot_keep])

    def _take(self, volume: model.Volume, now: datetime.datetime) -> model.Volume:
        name = f"{volume.name[:100]}.{now:%Y%m%dT%H%M%SZ}"
        return self._lives.snapshot(volume.id, name, volume.labels, True, MARK)

    def _tell(self, volume: model.Volume, exc: Exception) -> None:
        LOG.warning(
            "No scheduled snapshot of %(volume)s: %(why)s", {"volume": volume.name, "why": exc}
        )
        self._driver.registry.raise_alert(volume.id, model.Severity.WARNING, FAILED)
        self._driver.note("schedule", volume.id, str(exc)[:200])

    def _delete(self, snapshots: Sequence[model.Volume]) -> None:
        for snapshot in snapshots:
            try:
                self._lives.delete(snapshot.id)
            except exceptions.ContainerStackError as exc:
                # Somebody uses it, perhaps to restore something; the next round tries again.
                why = {"name": snapshot.name, "why": exc}
                LOG.info("The old snapshot %(name)s stays for now: %(why)s", why)


def _is_marked(volume: model.Volume) -> bool:
    return MARK.items() <= dict(volume.spec.labels).items()
