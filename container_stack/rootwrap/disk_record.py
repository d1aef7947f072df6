# SPDX-License-Identifier: Apache-2.0
"""What ``container-stack-disk`` knows of the volumes that are connected to this host.

Below :data:`disk_wire.HOME`, which only root changes and a reboot empties, as it ends sessions:
``records/ID.json``, ``locks/ID``, and the link ``ID`` to the device.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from container_stack.rootwrap import disk_wire

HOME = Path(disk_wire.HOME)


@dataclasses.dataclass(slots=True)
class Record:
    """A volume that is connected, or being so.

    :param source: without secrets.
    :param device: its path below /dev; "" as long as it isn't connected.
    :param number: the device's.
    :param stale: numbers of devices that it was before; the kernel gives them to others.
    :param users: ids of the servers that have it.
    """

    source: disk_wire.Source
    device: str = ""
    number: int = 0
    stale: list[int] = dataclasses.field(default_factory=list)
    users: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def held(disk_id: str) -> Iterator[None]:
    """Keep others from a volume."""
    _make_directories()
    path = HOME / "locks" / disk_id
    with contextlib.ExitStack() as opened:
        while True:
            file = opened.enter_context(path.open("ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            file.close()
        try:
            yield
        finally:
            if not _path(disk_id).exists():
                # Whoever waits for this file sees that it has gone, and takes the new one.
                path.unlink(missing_ok=True)


def read(disk_id: str) -> Record | None:
    """Return what is known of a volume."""
    try:
        text = _path(disk_id).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    values = json.loads(text)
    return Record(**{**values, "source": disk_wire.decode(values["source"])})


def write(disk_id: str, record: Record) -> None:
    """Write it down in one step, and let the link lead to its device."""
    values = dataclasses.asdict(record)
    values["source"] = record.source.without_secrets().encode()
    new = _path(disk_id).with_suffix(".new")
    new.write_text(json.dumps(values), encoding="utf-8")
    new.rename(_path(disk_id))
    link = HOME / disk_id
    if record.device and os.path.realpath(link) != record.device:
        fresh = HOME / f"{disk_id}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(record.device)
        fresh.rename(link)


def remove(disk_id: str) -> None:
    """Forget a volume; idempotent."""
    (HOME / disk_id).unlink(missing_ok=True)
    _path(disk_id).unlink(missing_ok=True)


def target_is_used(iqn: str, but: str) -> bool:
    """Tell whether a volume other than ``but`` has an iSCSI target's sessions."""
    for path in (HOME / "records").glob("*.json"):
        record = read(path.stem)
        if record and record.source.iscsi and path.stem != but and record.source.iscsi.iqn == iqn:
            return True
    return False


def _path(disk_id: str) -> Path:
    return HOME / "records" / f"{disk_id}.json"


def _make_directories() -> None:
    HOME.mkdir(exist_ok=True)
    # Its links are for everybody to follow, whatever the umask is.
    HOME.chmod(0o711)
    for name in ("records", "locks"):
        (HOME / name).mkdir(mode=0o700, exist_ok=True)
