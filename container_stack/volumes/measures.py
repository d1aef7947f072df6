# SPDX-License-Identifier: Apache-2.0
"""How much volumes take, over time, and the alerts of those that get full."""

import datetime
import logging
from collections.abc import Iterable

from container_stack import exceptions
from container_stack.volumes import driver, model

LOG = logging.getLogger(__name__)

#: Of what it may take; the worst first.
LEVELS = (
    (0.95, model.Severity.ALARM, "It is full: over 95 % are taken."),
    (0.85, model.Severity.WARNING, "It gets full: over 85 % are taken."),
)


class Measures:
    """The usage of one driver's volumes that are used here, or were until a moment ago."""

    def __init__(self, of: driver.Driver) -> None:
        self._driver = of
        self._used: set[str] = set()
        #: What alerts say of volumes that have one.
        self._said: dict[str, str] | None = None

    def run(self, now: datetime.datetime) -> None:
        """Measure, and raise or clear alerts. What can't be measured is left out."""
        used = {held.volume_id for held in self._driver.uses.all() if held.mount_paths}
        wanted, self._used = used | self._used, used
        found = {volume_id: usage for volume_id in sorted(wanted) if (usage := self._of(volume_id))}
        self._driver.registry.add_samples(
            [model.Sample(volume_id, now, usage.used) for volume_id, usage in found.items()]
        )
        for volume_id, usage in found.items():
            self._alert(volume_id, _level(usage))

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
