# SPDX-License-Identifier: Apache-2.0
"""Shares that are made from snapshots, which may take as long as copying all of their data.

Manila's call returns when the share is ready, or else after some seconds; Manila then asks for its
status from time to time. What is to be made is kept in Manila's database, so that a service that
was killed begins again when it is asked.
"""

import dataclasses
import threading
from concurrent import futures
from typing import Any

from container_stack import exceptions
from container_stack.shares import limits, model, service

#: Seconds for which a call waits, so that what is soon ready need not be asked for.
PATIENCE = 20.0

Job = futures.Future[model.Share]


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """A share that is to be.

    :param size: bytes.
    :param limits: as on its volume.
    """

    share_id: str
    server_id: str
    size: int
    protocol: str
    snapshot_id: str
    limits: str = ""


class Copies:
    """Makes shares from snapshots, each in a thread of its own.

    :param memory: Manila's private storage of this driver, which outlives the service.
    """

    def __init__(self, shares: service.ShareService, memory: Any, patience: float) -> None:
        self._shares = shares
        self._memory = memory
        self._patience = patience
        self._jobs: dict[str, Job] = {}

    def begin(self, wanted: Wanted) -> Job:
        """Begin to make a share, and return how it is going."""
        self._memory.update(wanted.share_id, _said(wanted), delete_existing=True)
        job = self._start(wanted)
        futures.wait([job], self._patience)
        return self._looked(wanted.share_id, job)

    def look(self, share_id: str) -> Job:
        """Return how it is going with a share, beginning again if that was cut off.

        :raises NotFound: nothing is known of it.
        """
        job = self._jobs.get(share_id)
        if job is None:
            said = self._memory.get(share_id)
            if not said or "snapshot_id" not in said:
                raise exceptions.NotFound(f"Nothing is under way with share {share_id}.")
            job = self._start(Wanted(**{**said, "size": int(said["size"])}))
        return self._looked(share_id, job)

    def _start(self, wanted: Wanted) -> Job:
        job = self._jobs[wanted.share_id] = Job()
        name = f"copy-{wanted.share_id}"
        # Daemons: who stops the service doesn't wait for them; see above.
        threading.Thread(target=self._make, args=(wanted, job), name=name, daemon=True).start()
        return job

    def _make(self, wanted: Wanted, job: Job) -> None:
        try:
            job.set_result(
                self._shares.create(
                    wanted.share_id,
                    wanted.server_id,
                    wanted.size,
                    wanted.protocol,
                    snapshot_id=wanted.snapshot_id,
                    limited=limits.from_label(wanted.limits),
                )
            )
        except BaseException as exc:
            job.set_exception(exc)

    def _looked(self, share_id: str, job: Job) -> Job:
        if job.done():
            self._jobs.pop(share_id, None)
            self._memory.delete(share_id)
        return job


def _said(wanted: Wanted) -> dict[str, str]:
    return {key: str(value) for key, value in dataclasses.asdict(wanted).items()}
