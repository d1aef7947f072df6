# SPDX-License-Identifier: Apache-2.0
"""Files to a store and back: whole or not at all, and from where they stopped after a crash.

An upload reads its file twice: for the digests, and for what of it isn't in the store yet. Parts
bear the digest of the whole in their names, so that another process, or another manager, finds
those of a dead upload again and sends only the rest. Nothing of the visible object changes before
all parts are there.
"""

import dataclasses
import logging
from collections.abc import Mapping

from container_stack import exceptions
from container_stack.storlets import model, objects
from container_stack.storlets.store import partfile, receiving, sending

LOG = logging.getLogger(__name__)

GIB = 1024**3
#: Bytes; Swift takes no larger object that isn't segmented.
LARGEST_SEGMENT = 5 * GIB
#: An object's metadata that has the SHA-256 of its bytes.
SHA256 = receiving.SHA256
#: Times that a download begins, since the object has changed or what arrived was damaged.
ROUNDS = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Transferred:
    """What came of it.

    :param sha256: hex, of the whole file.
    :param moved: bytes that this call sent or received; less than the size when it went on.
    """

    object: objects.Object
    sha256: str
    moved: int


def upload(
    store: objects.ObjectStore,
    container: str,
    name: str,
    path: str,
    *,
    metadata: Mapping[str, str] | None = None,
    segment_size: int = GIB,
    progress: model.Progress = model.silent,
) -> Transferred:
    """Store a file as an object; in segments if it is larger than one.

    If it fails or is killed, the object is as before, and the same call goes on. What is left
    over then, an earlier object's segments among it, the next upload of that name removes. Two
    uploads of one name at once don't mix, but one may fail.

    :param metadata: replaces the object's; that of the SHA-256 is added.
    :param segment_size: bytes.
    :raises InvalidRequest: the file can't be read, changes meanwhile or has too many segments.
    :raises NoSpace: there is no room for it.
    """
    objects.check_name(container, name)
    kept = objects.check_metadata(metadata or {})
    if not 0 < segment_size <= LARGEST_SEGMENT:
        raise exceptions.InvalidRequest(f"A segment has 1 to {LARGEST_SEGMENT} bytes.")
    with partfile.local(path), open(path, "rb", buffering=0) as file:
        plan = sending.Plan.of(file.fileno(), container, name, segment_size, progress)
        sent = sending.Upload(store, plan, file.fileno(), progress)
        sent.run({**kept, SHA256: plan.sha256})
    found = store.head(container, name)
    if found.etag != plan.etag:
        raise exceptions.Busy(f"{container}/{name} was replaced by somebody else meanwhile.")
    sent.sweep()
    return Transferred(found, plan.sha256, sent.moved)


def download(
    store: objects.ObjectStore,
    container: str,
    name: str,
    path: str,
    progress: model.Progress = model.silent,
) -> Transferred:
    """Bring an object to a file, which appears when all of it is there and right.

    What has arrived is beside it until then: the same call goes on after a crash. When the
    object is replaced meanwhile it begins again.

    :raises InvalidRequest: the path can't be used, or the bytes aren't what was uploaded.
    :raises NoSpace: the disk is full.
    :raises Busy: another process downloads to this path, or the object changes all the time.
    """
    objects.check_name(container, name)
    failure: exceptions.ContainerStackError
    moved = 0
    for _round in range(ROUNDS):
        found = store.head(container, name)
        try:
            with partfile.Part.open(path, found.etag) as part:
                coming = receiving.Download(store, found, part, progress)
                return Transferred(found, coming.run(), moved + coming.moved)
        except receiving.Changed as exc:
            LOG.info("Beginning again: %(why)s", {"why": exc.error})
            failure = exc.error
            moved += exc.moved
    raise failure
