# SPDX-License-Identifier: Apache-2.0
"""Whether the engine can limit what a server writes into its root, found out by trying.

It can on btrfs, on zfs, on devicemapper, and with overlay2 over xfs that is mounted with pquota.
What the engine tells of its storage doesn't say whether xfs is.
"""

import io
import logging
import tarfile
import uuid

from container_stack import exceptions
from container_stack.host import containers, images

LOG = logging.getLogger(__name__)

#: What an operator may choose.
AUTO, REQUIRED, NONE = "auto", "required", "none"
#: Value of the label ``container_stack.kind`` of what is made to try.
KIND = "quota-probe"
#: The limit that is tried; devicemapper refuses less than its base device has by default.
_SIZE = 20 * 1024**3

_CURE = "Keep its data on btrfs, or on xfs mounted with pquota, or set disk_quota to auto or none."


def choose(
    engine: containers.Engine, engine_images: images.Images, wanted: str, *, owner: str
) -> bool:
    """Return whether servers are to have disk quotas.

    :param wanted: ``auto`` where the engine can, ``required``, or ``none``.
    :raises HostNotReady: they are required, and the engine can't.
    """
    if wanted == NONE:
        return False
    why = lack(engine, engine_images, owner=owner)
    if why and wanted == REQUIRED:
        raise exceptions.HostNotReady(f"The engine can't limit disks: {why} {_CURE}")
    if why:
        LOG.info("Servers have no disk quota: %(why)s", {"why": why})
    return not why


def lack(engine: containers.Engine, engine_images: images.Images, *, owner: str) -> str:
    """Return why the engine can't limit what a container writes, or "" if it can.

    A container is made for that, never started, and removed with its image.
    """
    labels = {"container_stack.kind": KIND, "container_stack.owner": owner}
    for each in engine.list(labels):
        engine.remove(each.id)
    reference = f"cs-quota-probe:{uuid.uuid4().hex}"
    image = engine_images.import_tar(io.BytesIO(_nothing()), reference)
    try:
        spec = containers.ContainerSpec(
            name=f"cs-quota-probe-{uuid.uuid4().hex[:12]}",
            image=image.id,
            command=("/none",),
            labels=labels,
            storage=_SIZE,
        )
        with engine.creating(spec) as container_id:
            engine.remove(container_id)
    except exceptions.EngineUnavailable:
        raise
    except exceptions.ContainerStackError as exc:
        return str(exc)
    finally:
        engine_images.remove(reference)
    return ""


def _nothing() -> bytes:
    """Return a root file system with nothing in it."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo("dev")
        directory.type, directory.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(directory)
    return buffer.getvalue()
