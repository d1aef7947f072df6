# SPDX-License-Identifier: Apache-2.0
"""What is done for volumes without anybody asking, now and then."""

import contextlib
import datetime
import logging
import threading
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.volumes import driver, lives, measures, model, mounting, recovery, schedules

LOG = logging.getLogger(__name__)

#: Volumes that are asked for at once.
_PAGE = 500


class Upkeep:
    """The regular work for one driver's volumes."""

    def __init__(
        self,
        of: driver.Driver,
        mounted: mounting.Mounting,
        begun: lives.Lives,
        repair: recovery.Recovery,
    ) -> None:
        self._driver = of
        self._mounting = mounted
        self._lives = begun
        self._recovery = repair
        self._schedules = schedules.Schedules(of, begun)
        self._measures = measures.Measures(of)
        self._running = threading.Lock()

    def run(self, now: datetime.datetime) -> None:
        """Do what is due, unless another thread is at it; what fails is due again."""
        if not self._running.acquire(blocking=False):
            return
        try:
            self._run(now)
        finally:
            self._running.release()

    def _run(self, now: datetime.datetime) -> None:
        with self._trying("settle"):
            self._mounting.settle_later()
        with self._trying("serve"):
            self._driver.ownership.check()
            for words in self._recovery.reconcile(None, 0):
                LOG.info("%(words)s", {"words": words})
            volumes = [*self._volumes()]
            self._recovery.agree_on_uses(volumes)
            self._clean(volumes)
            self._schedules.run(volumes, now)
        with self._trying("measure"):
            self._measures.run(now)

    def _volumes(self) -> Iterator[model.Volume]:
        """Yield all volumes, page by page: others want the registry, too."""
        after = ""
        while True:
            query = model.Query(after=after, limit=_PAGE)
            page = self._driver.registry.list(self._driver.name, query)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].name

    def _clean(self, volumes: list[model.Volume]) -> None:
        half = model.State.PENDING | model.State.DELETED
        for volume in volumes:
            if volume.state & half and volume.node_id == self._driver.node_id:
                self._lives.clean(volume.id)

    @contextlib.contextmanager
    def _trying(self, what: str) -> Iterator[None]:
        try:
            yield
        except exceptions.ContainerStackError as exc:
            LOG.warning("Couldn't %(what)s now: %(why)s", {"what": what, "why": exc})
