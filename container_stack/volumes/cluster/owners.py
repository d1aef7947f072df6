# SPDX-License-Identifier: Apache-2.0
"""Which node owns a volume.

Owners are rows of the registry; that a node lives is what its lease says. Nothing here trusts a
wall clock, or that two messages arrive in the order in which they were sent:

- A claim counts only if the lease has lasted without a break from before it until after it.
- A dead node's volume is released only as it was seen while its lease was ours: if it has come back
  and claimed the volume again, the fence has grown, and the registry refuses. (Whoever joins tells
  the registry first that he owns nothing, so his next claim always grows it.)
"""

import logging
import threading
import uuid
from collections.abc import Callable

from container_stack import exceptions
from container_stack.host import records
from container_stack.volumes import model, ownership, registry
from container_stack.volumes.cluster import clock, heart, leases, membership

LOG = logging.getLogger(__name__)


class Cluster(ownership.Ownership):
    """Ownership among many hosts.

    :param member: this node's membership.
    :param releases: what the registry hasn't been told yet, on local disk.
    """

    def __init__(
        self,
        volumes: registry.Registry,
        held: leases.Leases,
        member: membership.Membership,
        releases: records.Records,
        beat: heart.Heart,
    ) -> None:
        self._registry = volumes
        self._leases = held
        self._member = member
        self._releases = releases
        self._heart = beat
        self._lock = threading.Lock()
        self._taking = threading.Lock()
        self._owned: set[str] = set()

    @property
    def node_id(self) -> str:
        return self._member.node_id

    @property
    def exclusive(self) -> bool:
        return True

    def check(self) -> None:
        self._member.check()

    def start(self, fence: Callable[[], None]) -> None:
        self._member.start(fence)
        self._heart.start(self._tell)

    def stop(self) -> None:
        self._heart.stop()
        self._member.stop(idle=not self._owned)

    def claim(self, volume_id: str) -> model.Volume:
        epoch = self._member.check()
        # What is ours may be in use, so whatever fails, it isn't released.
        ours = self._registry.get(volume_id).attached_on == self.node_id
        undo = self._forget_release(volume_id) or not ours
        try:
            volume = self._claim(volume_id)
            self._check_unbroken(epoch)
        except exceptions.ContainerStackError:
            # It may have come to be ours all the same.
            if undo:
                self._remember_release(volume_id)
            raise
        self._owned.add(volume_id)
        return volume

    def release(self, volume_id: str) -> None:
        self._owned.discard(volume_id)
        with self._lock:
            try:
                self._registry.release(volume_id, self.node_id)
            except exceptions.ContainerStackError as exc:
                LOG.warning(
                    "The registry is told later that %(volume)s is released: %(why)s",
                    {"volume": volume_id, "why": exc},
                )
                self._remember_release(volume_id)

    def _check_unbroken(self, epoch: int) -> None:
        if self._member.check() != epoch:
            raise exceptions.ServiceUnavailable(
                f"Node {self.node_id} was fenced in between; try again."
            )

    def _claim(self, volume_id: str) -> model.Volume:
        try:
            return self._registry.claim(volume_id, self.node_id)
        except exceptions.Busy:
            owner = self._registry.get(volume_id).attached_on
            if owner:
                self._take_over(volume_id, owner)
        return self._registry.claim(volume_id, self.node_id)

    def _take_over(self, volume_id: str, owner: str) -> None:
        """Let a node own a volume no more, if it is dead.

        :raises Busy: it lives, or another is at it.
        """
        mine = f"{self._member.holder}/{uuid.uuid4().hex}"
        with self._taking:
            asked = clock.now()
            try:
                self._leases.take(owner, mine)
            except exceptions.Busy as exc:
                raise exceptions.Busy(f"Volume is attached on {owner}.") from exc
            try:
                volume = self._registry.get(volume_id)
                if clock.now() > asked + self._leases.times.fence:
                    raise exceptions.ServiceUnavailable("Taking the volume over took too long.")
                if volume.attached_on == owner:
                    self._take_away(volume)
            finally:
                self._drop(owner, mine)

    def _take_away(self, volume: model.Volume) -> None:
        unused: dict[str, object] = {"attached_on": "", "device_path": "", "mount_paths": ()}
        self._registry.update(volume.id, fence=volume.fence, **unused)
        text = f"{volume.attached_on} is dead"
        LOG.warning("Taking over volume %(id)s: %(why)s", {"id": volume.id, "why": text})
        self._registry.add_event(
            "takeover",
            driver=volume.driver,
            volume_id=volume.id,
            node_id=self.node_id,
            text=text,
        )

    def _drop(self, owner: str, mine: str) -> None:
        try:
            self._leases.drop(owner, mine)
        except exceptions.ContainerStackError as exc:
            LOG.info("The lease of %(node)s ends by itself: %(why)s", {"node": owner, "why": exc})

    # What the registry is told later ----------------------------------------------------------

    def _remember_release(self, volume_id: str) -> None:
        try:
            self._releases.write(volume_id, {})
        except OSError as exc:
            LOG.error("Can't note that %(id)s is released: %(why)s", {"id": volume_id, "why": exc})

    def _forget_release(self, volume_id: str) -> bool:
        """Tell the registry nothing, and return whether it was to be told."""
        with self._lock:
            waiting = self._releases.read(volume_id) is not None
            self._releases.remove(volume_id)
            return waiting

    def _tell(self) -> None:
        """Tell the registry what it couldn't be told.

        :raises ServiceUnavailable: it still doesn't answer.
        """
        for volume_id in self._releases.all():
            with self._lock:
                if self._releases.read(volume_id) is not None:
                    self._registry.release(volume_id, self.node_id)
                    self._releases.remove(volume_id)
