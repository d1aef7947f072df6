# SPDX-License-Identifier: Apache-2.0
"""Which instances have a disk, of which there must never be two; see :mod:`.aws`."""

import logging

from container_stack import exceptions
from container_stack.host import locks
from container_stack.volumes.backends import aws_devices, aws_ec2, aws_model

LOG = logging.getLogger(__name__)

#: The tag that says which instance had a disk last by what is done here, and by nobody's hand.
_HOST = "host"


class Attachments:
    """Disks that come to this instance, and go.

    :param instance: this one's id.
    :param names: their lock is held while one is chosen.
    """

    def __init__(self, ec2: aws_ec2.EC2, instance: str, names: locks.ObjectLocks) -> None:
        self._ec2 = ec2
        self._instance = instance
        self._locks = names

    def attach(self, disk: aws_model.Disk) -> str:
        """Attach a disk to this instance, and return under which name; idempotent.

        :raises Busy: another instance has it, which isn't off.
        """
        disk = self.taken(disk)
        if self._instance not in disk.attachments:
            disk = self._attach(disk)
        return disk.attachments[self._instance]

    def detach(self, disk: aws_model.Disk) -> None:
        """Detach a disk from this instance; idempotent."""
        if self._instance in disk.attachments:
            self._ec2.detach(disk.id)

    def take(self, disk: aws_model.Disk) -> None:
        """Detach a disk from another instance that had it by :meth:`attach`; idempotent.

        :raises Busy: an instance has it that came by it in another way.
        """
        for other in self._others(disk):
            if other != disk.tags.get(_HOST):
                self._refuse_others(disk)
            LOG.warning("Taking %(disk)s from %(other)s", {"disk": disk.id, "other": other})
            self._ec2.take(disk.id, other)

    def taken(self, disk: aws_model.Disk) -> aws_model.Disk:
        """Take a disk from instances that don't run, and return it as it is then.

        :raises Busy: one that runs has it.
        """
        off = [each for each in self._others(disk) if self._ec2.is_off(each)]
        for each in off:
            LOG.warning(
                "Took %(disk)s from %(other)s, which is off", {"disk": disk.id, "other": each}
            )
            self._ec2.detach(disk.id, each)
        disk = self._ec2.disk(disk.id) if off else disk
        self._refuse_others(disk)
        return disk

    def _attach(self, disk: aws_model.Disk) -> aws_model.Disk:
        if disk.tags.get(_HOST) != self._instance:
            self._ec2.tag(disk.id, _HOST, self._instance)
        with self._locks.hold("names"):  # of which each must be free
            self._ec2.attach(disk.id, aws_devices.free_name(self._ec2.names()))
            seen = self._ec2.wait(
                f"{disk.id} to be attached",
                lambda: self._ec2.disk(disk.id),
                lambda seen: self._instance in seen.attachments,
            )
        try:
            self._refuse_others(seen)
        except exceptions.Busy:
            self._ec2.detach(disk.id)
            raise
        return seen

    def _others(self, disk: aws_model.Disk) -> list[str]:
        return sorted(disk.attachments.keys() - {self._instance})

    def _refuse_others(self, disk: aws_model.Disk) -> None:
        """Let no two instances have a disk: its file system would be destroyed."""
        if others := self._others(disk):
            raise exceptions.Busy(f"{disk.id} is attached to {', '.join(others)}.")
