# SPDX-License-Identifier: Apache-2.0
"""How much volumes take, over time, and the alerts of those that get full."""

import datetime
import logging
from collections.abc import Iterable

from container_stack import exceptions
from container_stack.volumes import driver, model

LOG = logging.getLogger(__name__)

#: Between two measurements of a volume, and how many are made at once: each is a command.
INTERVAL, AT_ONCE = datetime.timedelta(minutes=5), 100
#: Of what it may take; the worst first.
LEVELS = (
    (0.95, model.Severity.ALARM, "It is full: over 95 % are taken."),
    (0.85, model.Severity.WARNING, "It gets full: over 85 % are taken."),
)


class Measures:
    """The usage of one driver's volumes that are used here, or were until a moment ago."""

    def __init__(self, of: driver.Driver) -> None:
        self._driver = of
        #: Volumes that are used, and when they were measured.
        self._last: dict[str, datetime.datetime | None] = {}
        #: Those whose use has ended since.
        self._ended: set[str] = set()
        #: What alerts say of volumes that have one.
        self._said: dict[str, str] | None = None

    def run(self, now: datetime.datetime) -> None:
        """Measure what is due, and raise or clear alerts. What can't be measured is left out."""
        wanted = self._due(now)
        found = {volume_id: usage for volume_id in wanted if (usage := self._of(volume_id))}
        self._driver.registry.add_samples(
            [model.Sample(volume_id, now, usage.used) for volume_id, usage in found.items()]
        )
        for volume_id, usage in found.items():
            self._alert(volume_id, _level(usage))

    def _due(self, now: datetime.datetime) -> list[str]:
        """Return some volumes that are to be measured now, those first that wait the longest."""
        used = {held.volume_id for held in self._driver.uses.all() if held.mount_paths}
        self._ended = (self._ended | self._last.keys()) - used
        self._last = {volume_id: self._last.get(volume_id) for volume_id in used}
        past = datetime.datetime.min.replace(tzinfo=datetime.UTC)
        waiting = sorted(
            (when or past, volume_id)
            for volume_id, when in self._last.items()
            # A clock that was set back must not stop the work until it has caught up.
            if when is None or not when <= now < when + INTERVAL
        )
        wanted = [*sorted(self._ended), *(volume_id for _, volume_id in waiting)][:AT_ONCE]
        self._ended -= {*wanted}
        self._last |= {volume_id: now for volume_id in wanted if volume_id in used}
        return wanted

    def _of(self, volume_id: str) -> model.Usage | None:
        try:
            return self._driver.backend.usage(volume_id)
        except exceptions.ContainerStackError as exc:
            LOG.debug("%(volume)s isn't measured: %(why)s", {"volume": volume_id, "why": exc})
            return None

    def _alert(self, volume_id: str, level: tuple[model.Severity, str] | None) -> None:
        said = self._standing()
        text = level[1] if level else ""
        if said.get(volume_id, "") == text:
            return
        if volume_id in said:
            self._driver.registry.clear_alerts(volume_id, said[volume_id])
            del said[volume_id]
        if level is not None:
            self._driver.registry.raise_alert(volume_id, *level)
            said[volume_id] = text

    def _standing(self) -> dict[str, str]:
        if self._said is None:
            texts = [text for _, _, text in LEVELS]
            standing: Iterable[model.Alert] = self._driver.registry.alerts(limit=1000)
            self._said = {each.volume_id: each.text for each in standing if each.text in texts}
        return self._said


def _level(usage: model.Usage) -> tuple[model.Severity, str] | None:
    for share, severity, text in LEVELS:
        if usage.limit and usage.used > share * usage.limit:
            return severity, text
    return None
