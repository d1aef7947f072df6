# SPDX-License-Identifier: Apache-2.0
"""moto as EC2, with what it lacks: disks that hold something, time that passes, tokens.

``python ec2_server.py DIRECTORY UNIT`` prints its port. A disk is a file in DIRECTORY/disks of UNIT
bytes for each GiB; while it is attached a loop device, to which DIRECTORY/devices/<id> links. What
is made isn't ready for as many seconds as DIRECTORY/slow says. The instance that DIRECTORY/hung
names lets go of a disk by force only.
"""

import contextlib
import datetime
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import elastic_block_store as models
from moto.ec2.responses import elastic_block_store as responses
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug import serving

DIRECTORY, UNIT = Path(sys.argv[1]), int(sys.argv[2])
BACKEND = models.EBSBackend
_LOCK = threading.Lock()
_FORCED = threading.Event()
_TOKENS: dict[str, str] = {}

create_volume, delete_volume = BACKEND.create_volume, BACKEND.delete_volume
create_snapshot, delete_snapshot = BACKEND.create_snapshot, BACKEND.delete_snapshot
attach_volume, detach_volume = BACKEND.attach_volume, BACKEND.detach_volume
modify_volume = BACKEND.modify_volume
answer_detachment = responses.ElasticBlockStore.detach_volume
answer_creation = responses.ElasticBlockStore.create_volume
status_of = models.Volume.status.fget


def create(self: Any, size: int, *args: Any, **values: Any) -> Any:
    made = create_volume(self, size, *args, **values)
    if made.snapshot_id:
        assert self.get_snapshot(made.snapshot_id).status == "completed"
        copy(made.snapshot_id, made.id)
    with open(disk(made.id), "ab") as file:
        file.truncate(int(made.size) * UNIT)
    return made


def delete(self: Any, volume_id: str) -> Any:
    gone = delete_volume(self, volume_id)
    disk(volume_id).unlink()
    return gone


def snapshot(self: Any, volume_id: str, *args: Any, **values: Any) -> Any:
    made = create_snapshot(self, volume_id, *args, **values)
    copy(volume_id, made.id)
    return made


def forget(self: Any, snapshot_id: str) -> Any:
    gone = delete_snapshot(self, snapshot_id)
    disk(snapshot_id).unlink()
    return gone


def attach(self: Any, volume_id: str, *args: Any, **values: Any) -> Any:
    made = attach_volume(self, volume_id, *args, **values)
    if not device(volume_id).is_symlink():
        device(volume_id).symlink_to(losetup("--find", "--show", str(disk(volume_id))))
    return made


def detach(self: Any, volume_id: str, instance_id: str, *args: Any, **values: Any) -> Any:
    hung = DIRECTORY / "hung"
    if hung.exists() and hung.read_text() == instance_id and not _FORCED.is_set():
        return self.get_volume(volume_id).attachment
    args = (instance_id, *args)
    gone = detach_volume(self, volume_id, *args, **values)
    losetup("--detach", os.readlink(device(volume_id)))
    device(volume_id).unlink()
    return gone


def modify(self: Any, volume_id: str, *args: Any, **values: Any) -> Any:
    changed = modify_volume(self, volume_id, *args, **values)
    with open(disk(volume_id), "ab") as file:
        file.truncate(int(changed.size) * UNIT)
    with contextlib.suppress(FileNotFoundError):
        losetup("--set-capacity", os.readlink(device(volume_id)))
    return changed


def answer_once(self: Any) -> Any:
    """Make one volume for one token, as EC2 does."""
    token = self._get_param("ClientToken")
    known = self.ec2_backend.volumes.get(_TOKENS.get(token, ""))
    if known is not None:
        return ActionResult(known)
    made = answer_creation(self)
    _TOKENS[token] = made._result.id
    return made


def answer_detaching(self: Any) -> Any:
    """Note whether an instance is waited for, which moto doesn't look at."""
    force = str(self._get_param("Force")).lower() == "true"
    (_FORCED.set if force else _FORCED.clear)()
    return answer_detachment(self)


def is_new(begun: datetime.datetime) -> bool:
    slow = DIRECTORY / "slow"
    seconds = float(slow.read_text()) if slow.exists() else 0
    return bool(utcnow() - begun < datetime.timedelta(seconds=seconds))


def copy(origin: str, target: str) -> None:
    words = ["cp", "--reflink=auto", "--sparse=always", disk(origin), disk(target)]
    subprocess.run(words, check=True)


def disk(name: str) -> Path:
    return DIRECTORY / "disks" / name


def device(name: str) -> Path:
    return DIRECTORY / "devices" / name


def losetup(*words: str) -> str:
    done = subprocess.run(["losetup", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def main() -> None:
    BACKEND.create_volume, BACKEND.delete_volume = create, delete
    BACKEND.create_snapshot, BACKEND.delete_snapshot = snapshot, forget
    BACKEND.attach_volume, BACKEND.detach_volume = attach, detach
    BACKEND.modify_volume = modify
    responses.ElasticBlockStore.create_volume = answer_once
    responses.ElasticBlockStore.detach_volume = answer_detaching
    models.Volume.status = property(
        lambda self: "creating" if is_new(self.create_time) else status_of(self)
    )
    models.Snapshot.status = property(
        lambda self: "pending" if is_new(self.start_time) else "completed",
        lambda self, value: None,
    )
    for name in ("disks", "devices"):
        (DIRECTORY / name).mkdir()
    moto = DomainDispatcherApplication(create_backend_app)

    def answer(environ: Any, start: Any) -> Any:
        with _LOCK:  # moto isn't made for several at once
            return [b"".join(moto(environ, start))]

    server = serving.make_server("127.0.0.1", 0, answer, threaded=True)
    print(server.server_port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    server.shutdown()


if __name__ == "__main__":
    main()
