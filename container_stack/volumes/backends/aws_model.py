# SPDX-License-Identifier: Apache-2.0
"""What EC2 tells of EBS, and is told, in our shapes."""

import dataclasses
from collections.abc import Mapping
from typing import Any

#: What all tags of ours begin with.
PREFIX = "container_stack."


@dataclasses.dataclass(frozen=True, slots=True)
class Disk:
    """An EBS volume.

    :param size: GiB.
    :param attachments: by instance, the name under which it is attached there.
    :param tags: ours, without what they begin with.
    """

    id: str
    state: str
    size: int
    attachments: Mapping[str, str]
    tags: Mapping[str, str]


@dataclasses.dataclass(frozen=True, slots=True)
class Snapshot:
    """An EBS snapshot.

    :param size: GiB.
    :param progress: such as "37%".
    """

    id: str
    state: str
    size: int
    progress: str
    tags: Mapping[str, str]


def disk(found: Mapping[str, Any]) -> Disk:
    """Return what EC2 describes."""
    return Disk(
        id=found["VolumeId"],
        state=found["State"],
        size=found["Size"],
        attachments={
            each["InstanceId"]: each.get("Device", "")
            for each in found.get("Attachments", ())
            if each.get("State") != "detached" and "InstanceId" in each
        },
        tags=_tags(found),
    )


def snapshot(found: Mapping[str, Any]) -> Snapshot:
    """Return what EC2 describes."""
    return Snapshot(
        id=found["SnapshotId"],
        state=found["State"],
        size=found["VolumeSize"],
        progress=found.get("Progress", ""),
        tags=_tags(found),
    )


def _tags(found: Mapping[str, Any]) -> Mapping[str, str]:
    pairs = {each["Key"]: each["Value"] for each in found.get("Tags", ())}
    return {key.removeprefix(PREFIX): pairs[key] for key in pairs if key.startswith(PREFIX)}


def tag_specification(kind: str, tags: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return how EC2 is told the tags of what is made."""
    pairs = [{"Key": PREFIX + name, "Value": value} for name, value in tags.items()]
    return [{"ResourceType": kind, "Tags": pairs}]


def filters(tags: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Return how EC2 is asked for what has tags."""
    return [filter_(f"tag:{PREFIX}{name}", value) for name, value in tags.items()]


def filter_(name: str, value: str) -> Mapping[str, Any]:
    """Return how EC2 is asked for what has a value."""
    return {"Name": name, "Values": [value]}
