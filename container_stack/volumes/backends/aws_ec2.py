# SPDX-License-Identifier: Apache-2.0
"""EBS by EC2's API: disks (Amazon calls them volumes), and snapshots, that carry our tags.

Every call ends in bounded time; what takes longer is waited for by :meth:`EC2.wait`.
"""

import contextlib
import functools
import logging
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import boto3
import botocore.config
import botocore.loaders
import botocore.session

from container_stack import exceptions
from container_stack.volumes.backends import aws_errors, aws_instance, aws_model

LOG = logging.getLogger(__name__)

#: Seconds in which an instance that is asked to let go of a disk lets go, if it is well.
GENTLY = 30.0
_DEAD = ("deleting", "deleted", "error")

_Seen = TypeVar("_Seen")


class EC2:
    """EC2's API for one driver; safe under threads.

    :param settings: with keys, or what Amazon's library finds in its usual places.
    :param patience: seconds that :meth:`wait` waits.
    """

    def __init__(
        self, settings: Mapping[str, str], place: aws_instance.Instance, patience: float
    ) -> None:
        # It would log the headers of requests, and one of them is a secret.
        logging.getLogger("botocore").setLevel(logging.WARNING)
        core = botocore.session.Session()
        core.register_component("data_loader", _descriptions())
        if url := settings.get("metadata_url"):
            core.set_config_variable("ec2_metadata_service_endpoint", url)
        session = boto3.session.Session(
            aws_access_key_id=settings.get("aws_access_key_id") or None,
            aws_secret_access_key=settings.get("aws_secret_access_key") or None,
            aws_session_token=settings.get("aws_session_token") or None,
            botocore_session=core,
        )
        with aws_errors.calling():
            self._client = session.client(
                "ec2",
                region_name=place.region,
                endpoint_url=settings.get("endpoint_url") or None,
                config=botocore.config.Config(
                    connect_timeout=5,
                    read_timeout=30,
                    retries={"mode": "standard", "total_max_attempts": 3},
                ),
            )
        self._place = place
        self._patience = patience

    # Disks ----------------------------------------------------------------------------------

    def disks(self, **tags: str) -> list[aws_model.Disk]:
        """Return the disks here that have these tags and aren't about to go."""
        filters = [
            *aws_model.filters(tags),
            aws_model.filter_("availability-zone", self._place.availability_zone),
        ]
        found = self._pages("describe_volumes", "Volumes", Filters=filters)
        return [disk for disk in map(aws_model.disk, found) if disk.state not in _DEAD]

    def broken_disks(self, **tags: str) -> list[aws_model.Disk]:
        """Return those that Amazon couldn't make."""
        filters = [*aws_model.filters(tags), aws_model.filter_("status", "error")]
        return [*map(aws_model.disk, self._pages("describe_volumes", "Volumes", Filters=filters))]

    def disk(self, disk_id: str) -> aws_model.Disk:
        """Return a disk.

        :raises NotFound: there is none.
        """
        with aws_errors.calling():
            return aws_model.disk(self._client.describe_volumes(VolumeIds=[disk_id])["Volumes"][0])

    def create_disk(self, token: str, tags: Mapping[str, str], **spec: Any) -> aws_model.Disk:
        """Make a disk here, and return it as it begins; with the same token, it is made once."""
        wanted = {
            **spec,
            "AvailabilityZone": self._place.availability_zone,
            "TagSpecifications": aws_model.tag_specification("volume", tags),
        }
        with aws_errors.calling():
            made = aws_model.disk(self._client.create_volume(ClientToken=token, **wanted))
            if made.state in _DEAD:  # a token outlives what it was used for
                token = str(uuid.uuid4())
                made = aws_model.disk(self._client.create_volume(ClientToken=token, **wanted))
        return made

    def delete_disk(self, disk_id: str) -> None:
        """Delete a disk that isn't attached; idempotent."""
        with contextlib.suppress(exceptions.NotFound), aws_errors.calling():
            self._client.delete_volume(VolumeId=disk_id)

    def grow_disk(self, disk_id: str, size: int) -> None:
        """Give a disk so many GiB, and wait until they can be used."""
        with aws_errors.calling():
            self._client.modify_volume(VolumeId=disk_id, Size=size)
        self.wait(
            f"{disk_id} to have {size} GiB",
            lambda: self._modification(disk_id),
            lambda state: state in ("optimizing", "completed"),
        )

    def attach(self, disk_id: str, name: str) -> None:
        """Begin to attach a disk to this instance under a name.

        :raises Busy: it is attached elsewhere, or something else has the name.
        """
        with aws_errors.calling():
            self._client.attach_volume(
                VolumeId=disk_id, InstanceId=self._place.instance_id, Device=name
            )

    def detach(self, disk_id: str, instance: str = "", *, force: bool = False) -> None:
        """Detach a disk, and wait until it is; idempotent.

        :param instance: "" means this one.
        :param force: don't wait for the instance, which must not write any more.
        """
        self._detach(disk_id, instance or self._place.instance_id, force, self._patience)

    def take(self, disk_id: str, instance: str) -> None:
        """Detach a disk from an instance that must not write any more, alive or not."""
        try:
            self._detach(disk_id, instance, force=False, patience=min(GENTLY, self._patience))
        except exceptions.ServiceUnavailable:
            LOG.warning(
                "%(other)s doesn't let go of %(disk)s, which is taken by force",
                {"other": instance, "disk": disk_id},
            )
            self.detach(disk_id, instance, force=True)

    def _detach(self, disk_id: str, instance: str, force: bool, patience: float) -> None:
        with contextlib.suppress(exceptions.NotFound):
            # Busy: it is being detached already.
            with contextlib.suppress(exceptions.Busy), aws_errors.calling():
                self._client.detach_volume(VolumeId=disk_id, InstanceId=instance, Force=force)
            self.wait(
                f"{disk_id} to be detached",
                lambda: self.disk(disk_id),
                lambda disk: instance not in disk.attachments,
                patience,
            )

    def names(self) -> list[str]:
        """Return the names under which something is attached to this instance."""
        mappings = self._instance(self._place.instance_id)["BlockDeviceMappings"]
        return [mapping["DeviceName"] for mapping in mappings]

    def is_off(self, instance: str) -> bool:
        """Tell whether an instance doesn't run, and so writes nothing any more."""
        with contextlib.suppress(exceptions.NotFound):
            return str(self._instance(instance)["State"]["Name"]) in ("stopped", "terminated")
        return True

    def _instance(self, instance: str) -> Mapping[str, Any]:
        with aws_errors.calling():
            found = self._client.describe_instances(InstanceIds=[instance])
        try:
            described: Mapping[str, Any] = found["Reservations"][0]["Instances"][0]
        except IndexError as exc:
            raise exceptions.NotFound(f"There is no instance {instance}.") from exc
        return described

    # Snapshots ------------------------------------------------------------------------------

    def snapshots(self, **tags: str) -> list[aws_model.Snapshot]:
        """Return the snapshots that have these tags."""
        found = self._pages(
            "describe_snapshots", "Snapshots", OwnerIds=["self"], Filters=aws_model.filters(tags)
        )
        return [
            snapshot for snapshot in map(aws_model.snapshot, found) if snapshot.state != "error"
        ]

    def create_snapshot(self, disk_id: str, tags: Mapping[str, str]) -> aws_model.Snapshot:
        """Keep what a disk holds at this moment; it takes its time until it is completed."""
        with aws_errors.calling():
            return aws_model.snapshot(
                self._client.create_snapshot(
                    VolumeId=disk_id,
                    TagSpecifications=aws_model.tag_specification("snapshot", tags),
                )
            )

    def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot; idempotent."""
        with contextlib.suppress(exceptions.NotFound), aws_errors.calling():
            self._client.delete_snapshot(SnapshotId=snapshot_id)

    def await_snapshot(self, snapshot: aws_model.Snapshot) -> aws_model.Snapshot:
        """Wait until disks can be made of a snapshot."""

        def look() -> aws_model.Snapshot:
            with aws_errors.calling():
                return aws_model.snapshot(
                    self._client.describe_snapshots(SnapshotIds=[snapshot.id])["Snapshots"][0]
                )

        return self.wait(
            f"{snapshot.id} to be completed", look, lambda seen: seen.state == "completed"
        )

    # Tags, and waiting ----------------------------------------------------------------------

    def tag(self, disk_id: str, name: str, value: str) -> None:
        """Set a tag; "" removes it."""
        key = aws_model.PREFIX + name
        with aws_errors.calling():
            if value:
                self._client.create_tags(Resources=[disk_id], Tags=[{"Key": key, "Value": value}])
            else:
                self._client.delete_tags(Resources=[disk_id], Tags=[{"Key": key}])

    def wait(
        self,
        what: str,
        look: Callable[[], _Seen],
        good: Callable[[_Seen], bool],
        patience: float = 0.0,
    ) -> _Seen:
        """Look until what is seen is good.

        What has just been made EC2 may not know everywhere yet.

        :param patience: seconds; 0 means as long as for all else.
        :raises ServiceUnavailable: it takes too long; asking again goes on waiting.
        """
        patience = patience or self._patience
        end, pause = time.monotonic() + patience, 0.5
        while True:
            with contextlib.suppress(exceptions.NotFound):
                seen = look()
                if getattr(seen, "state", "") == "error":
                    raise exceptions.ServiceUnavailable(f"EC2 gave up: {what} didn't work.")
                if good(seen):
                    return seen
            if time.monotonic() > end:
                raise exceptions.ServiceUnavailable(
                    f"EC2 takes longer than {patience:g} s for {what}; try again later."
                )
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)

    def _modification(self, disk_id: str) -> str:
        with aws_errors.calling():
            found = self._client.describe_volumes_modifications(VolumeIds=[disk_id])
        state = str(found["VolumesModifications"][-1]["ModificationState"])
        if state == "failed":
            raise exceptions.ServiceUnavailable(f"EC2 couldn't let {disk_id} grow.")
        return state

    def _pages(self, action: str, key: str, **query: Any) -> list[Mapping[str, Any]]:
        with aws_errors.calling():
            pages = self._client.get_paginator(action).paginate(**query)
            return [each for page in pages for each in page[key]]


@functools.cache
def _descriptions() -> botocore.loaders.Loader:
    """Return what describes Amazon's APIs, which takes a second to read."""
    return botocore.loaders.create_loader()
