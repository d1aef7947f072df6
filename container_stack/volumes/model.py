# SPDX-License-Identifier: Apache-2.0
"""What a volume is, in the words of the Open Storage specification.

A snapshot is a volume that has a parent. Sizes are bytes, intervals seconds, times UTC.
"""

import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping

from container_stack import exceptions

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TEXT = re.compile(r"[\x20-\x7e\u00a0-\U0010ffff]{0,255}")
#: Bytes below which nothing is a volume, and above which nothing is.
SMALLEST, LARGEST = 1, 2**62
#: Bytes of a volume whose size nobody gave: what the original's command line says.
DEFAULT_SIZE = 1000 * 1024**2


class State(enum.IntFlag):
    """How far a volume is; the numbers are those of the original."""

    PENDING = 1
    AVAILABLE = 2
    ATTACHED = 4
    DETACHED = 8
    DETACHING = 16
    ERROR = 32
    DELETED = 64


class Status(enum.StrEnum):
    """Whether a volume can be used."""

    UP = "Up"
    DOWN = "Down"
    DEGRADED = "Degraded"
    NOT_PRESENT = "NotPresent"


@dataclasses.dataclass(frozen=True, slots=True)
class Spec:
    """What a volume is to be.

    :param size: bytes; what a backend with limits lets its files take.
    :param filesystem: "" means the backend's own.
    :param ephemeral: noted; a volume goes when it is deleted.
    :param block_size: bytes; a wish.
    :param ha_level: copies that the backend keeps; a wish.
    :param cos: class of service, 0 to 9; a wish.
    :param snapshot_interval: minutes between scheduled snapshots; 0 means none.
    :param snapshot_keep: scheduled snapshots that are kept.
    :param labels: of the configuration (ConfigLabels).
    """

    size: int = DEFAULT_SIZE
    filesystem: str = ""
    ephemeral: bool = False
    block_size: int = 0
    ha_level: int = 1
    cos: int = 0
    dedupe: bool = False
    snapshot_interval: int = 0
    snapshot_keep: int = 5
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What a volume was made from.

    :param parent: the id of the volume, or snapshot, whose content it began with.
    :param seed: where else its content came from; kept, not fetched.
    """

    parent: str = ""
    seed: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Volume:
    """A volume as the registry has it.

    :param id: a UUID in lower case, unique everywhere.
    :param driver: the name under which its backend is configured.
    :param name: unique within the driver.
    :param node_id: where it was made; who reaches its data when the backend isn't shared.
    :param attached_on: the node that owns it now, or "".
    :param fence: grows each time that another node comes to own it.
    :param device_path: on ``attached_on``; "" for file volumes and while detached.
    :param mount_paths: on ``attached_on``.
    :param format: the file system that it really has; "" while there is none.
    :param last_scan: when usage was last measured.
    :param usage: bytes that its data took then.
    :param error: why its state is ERROR.
    """

    id: str
    driver: str
    name: str
    spec: Spec
    created_at: datetime.datetime
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source: Source = Source()
    read_only: bool = False
    state: State = State.PENDING
    status: Status = Status.UP
    node_id: str = ""
    attached_on: str = ""
    fence: int = 0
    device_path: str = ""
    mount_paths: tuple[str, ...] = ()
    format: str = ""
    usage: int = 0
    last_scan: datetime.datetime | None = None
    error: str = ""

    @property
    def is_snapshot(self) -> bool:
        """Tell whether it began with another's content."""
        return bool(self.source.parent)


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """Which volumes are wanted: those for which all that is given is true.

    :param ids: one of them; None means any.
    :param labels: each key with its value, in the volume's labels.
    :param config_labels: the same of its specification.
    :param parents: one of them is its parent; empty means any that has one; None means any.
    :param after: a name; volumes are sorted by name, and those up to it are left out.
    :param limit: at most so many; 0 means all.
    """

    name: str = ""
    ids: tuple[str, ...] | None = None
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    config_labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parents: tuple[str, ...] | None = None
    node_id: str = ""
    attached_on: str = ""
    after: str = ""
    limit: int = 0


EVERYTHING = Query()


@dataclasses.dataclass(frozen=True, slots=True)
class Stats:
    """What a volume's device did since it was attached: operations, milliseconds and bytes."""

    reads: int = 0
    read_ms: int = 0
    read_bytes: int = 0
    writes: int = 0
    write_ms: int = 0
    write_bytes: int = 0
    io_progress: int = 0
    io_ms: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Usage:
    """Bytes that a volume's data take, and that they may take (0: nobody limits them)."""

    used: int
    limit: int = 0


class Severity(enum.IntEnum):
    """How bad it is."""

    NOTICE = 1
    WARNING = 2
    ALARM = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Alert:
    """Something that an operator should know of: raised once, and cleared."""

    id: int
    volume_id: str
    severity: Severity
    text: str
    raised_at: datetime.datetime
    cleared_at: datetime.datetime | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    :param kind: a word such as "create", "mount", "fence".
    """

    id: int
    at: datetime.datetime
    kind: str
    driver: str = ""
    volume_id: str = ""
    node_id: str = ""
    text: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class Sample:
    """How much a volume took at a moment, in bytes."""

    volume_id: str
    at: datetime.datetime
    used: int


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """A host that runs the daemon.

    :param generation: grows each time that its daemon starts.
    :param timestamp: when it last said something, by the database's clock.
    :param cpu: per cent that were busy. ``memory_*`` are bytes.
    """

    id: str
    hostname: str = ""
    management_ip: str = ""
    data_ip: str = ""
    generation: int = 0
    status: Status = Status.UP
    cpu: float = 0.0
    memory_total: int = 0
    memory_used: int = 0
    load: float = 0.0
    timestamp: datetime.datetime | None = None


def check_id(text: object) -> str:
    """Return what is a volume's id, in lower case.

    :raises NotFound: it can't be one, so there is no such volume.
    """
    if not isinstance(text, str) or not _ID.fullmatch(text.lower()):
        raise exceptions.NotFound("Volume does not exist.")
    return text.lower()


def check_name(text: object) -> str:
    """Return what is a volume's name.

    :raises InvalidRequest: it can't be one.
    """
    if not isinstance(text, str) or not _NAME.fullmatch(text):
        raise exceptions.InvalidRequest(
            f"{str(text)[:140]!r} can't be a volume's name: use letters, digits, '_', '.' and '-', "
            "at most 128, a letter or digit first."
        )
    return text


def check_labels(labels: object) -> Mapping[str, str]:
    """Return what are labels.

    :raises InvalidRequest: they aren't; at most 64 pairs of 255 printable characters each.
    """
    if not isinstance(labels, Mapping) or len(labels) > 64:
        raise exceptions.InvalidRequest("Labels are an object of at most 64 texts.")
    for text in (*labels, *labels.values()):
        if not isinstance(text, str) or not _TEXT.fullmatch(text) or "" in labels:
            raise exceptions.InvalidRequest(
                f"{str(text)[:80]!r} can't be a label: at most 255 printable characters."
            )
    return dict(labels)


def check_spec(spec: Spec) -> Spec:
    """Return a specification that can be meant.

    :raises InvalidRequest: naming the field.
    """
    whole = {
        "size": (spec.size, SMALLEST, LARGEST),
        "block size": (spec.block_size, 0, 2**31),
        "HA level": (spec.ha_level, 0, 16),
        "class of service": (spec.cos, 0, 9),
        "snapshot interval": (spec.snapshot_interval, 0, 525600),
        "number of snapshots": (spec.snapshot_keep, 1, 1000),
    }
    for name, (value, least, most) in whole.items():
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise exceptions.InvalidRequest(f"{value!r} can't be a {name}: {least} to {most}.")
    for name, flag in (("ephemeral", spec.ephemeral), ("dedupe", spec.dedupe)):
        if not isinstance(flag, bool):
            raise exceptions.InvalidRequest(f"{name} is true or false.")
    if not re.fullmatch(r"[a-z0-9]{0,16}", str(spec.filesystem)):
        raise exceptions.InvalidRequest(f"{str(spec.filesystem)[:40]!r} is no file system.")
    check_labels(spec.labels)
    return spec
