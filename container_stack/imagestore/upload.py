# SPDX-License-Identifier: Apache-2.0
"""One image on its way to the array, from nothing to finished or back to nothing.

The steps: note what is about to be made · make it · bring it online · attach · write · detach ·
trim · snapshot · note the length · forget. A finished image stays online: nobody may log in to it
but who is in its access list, and taking it offline would cut off the readers of other hosts.
"""

import contextlib
import dataclasses
import functools
import logging
import socket
import time
import uuid

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import edf, journal, model, pipeline, sessions

LOG = logging.getLogger(__name__)

#: Seconds after which the array has given up a request that we lost sight of.
LATE = 600.0
#: Seconds that a target may take to show that its volume has grown.
GROWN_WITHIN = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """How new images are made.

    :param piece: bytes of a piece.
    :param first_size_gib: of a volume for who knows how many bytes.
    """

    piece: int
    first_size_gib: int
    replica_count: int
    placement_mode: str


class Uploads:
    """Writes images, and removes what failed or died on the way."""

    def __init__(
        self,
        client: edf.Client,
        attached: sessions.Sessions,
        records: journal.Journal,
        policy: Policy,
    ) -> None:
        self._client = client
        self._sessions = attached
        self._journal = records
        self._policy = policy

    def run(
        self,
        entry: journal.Entry,
        stream: pipeline.Source,
        size: int,
        digests: pipeline.Digests,
        verifier: pipeline.Verifier | None,
    ) -> model.Stored:
        """Store an image; whatever goes wrong, nothing of it stays on an array that answers.

        :param entry: the image's, which a dead process may have left; forgotten in the end.
        """
        name = model.image_name(entry.image_id)
        first_gib = model.gib(size) if size else self._policy.first_size_gib
        self._reap(entry)
        with contextlib.ExitStack() as undo:
            undo.callback(self._clean, entry)
            self._make(entry, name, first_gib)
            length = self._write(name, stream, size, digests, verifier)
            self._trim(name, length)
            self._client.snapshot(name)
            stored = model.Stored(entry.image_id, length, digests.hex())
            self._client.set_metadata(name, model.finished(stored))
            entry.forget()
            undo.pop_all()
        return stored

    def finish(self, entry: journal.Entry) -> bool:
        """Remove what a failed or dead upload left; return whether there was something.

        The record stays when there was nothing *yet*: a request whose answer was lost may still
        be carried out.
        """
        reaped = self._reap(entry)
        if reaped is not None or entry.age() > LATE:
            entry.forget()
        return bool(reaped)

    def _reap(self, entry: journal.Entry) -> bool | None:
        """Delete an app instance with a noted UUID; None if there is none of its name at all.

        By its name alone somebody else's upload could be meant, from another host.
        """
        name, noted = model.image_name(entry.image_id), entry.noted()
        if not noted:
            return False
        try:
            instance = self._client.app_instance(name)
        except exceptions.NotFound:
            return None
        if instance.uuid not in noted:
            return False
        reaped = self._client.delete_app_instance(instance.uuid)
        LOG.warning("Removed %(name)s, whose upload failed", {"name": name})
        return reaped

    def _clean(self, entry: journal.Entry) -> None:
        try:
            self.finish(entry)
        except exceptions.ContainerStackError as exc:
            LOG.warning(
                "The failed upload of %(id)s is left for later: %(why)s",
                {"id": entry.image_id, "why": exc},
            )

    def _make(self, entry: journal.Entry, name: str, size_gib: int) -> None:
        identifier = str(uuid.uuid4())
        entry.note(identifier)
        self._client.create_app_instance(
            name,
            size_gib=size_gib,
            replica_count=self._policy.replica_count,
            placement_mode=self._policy.placement_mode,
            identifier=identifier,
        )
        self._client.set_metadata(name, model.begun(socket.gethostname()))
        self._client.set_online(name, True)

    def _write(
        self,
        name: str,
        stream: pipeline.Source,
        size: int,
        digests: pipeline.Digests,
        verifier: pipeline.Verifier | None,
    ) -> int:
        with contextlib.closing(self._sessions.open(name)) as session:
            grow = functools.partial(self._grow, name, session.device)
            volume = pipeline.FreshVolume(session.device, grow)
            return pipeline.copy_in(
                stream, volume, digests, size=size, piece=self._policy.piece, verifier=verifier
            )

    def _grow(self, name: str, device: attach.BlockDevice, needed: int) -> None:
        """Double a volume, or give it what it needs when the array hasn't got as much."""
        least = model.gib(needed)
        doubled = min(max(least, 2 * model.gib(device.size)), model.LARGEST_GIB)
        try:
            self._client.resize(name, doubled)
        except exceptions.NoSpace:
            if doubled == least:
                raise
            self._client.resize(name, least)
        end = time.monotonic() + GROWN_WITHIN
        while device.refresh() < needed:
            if time.monotonic() > end:
                raise exceptions.ArrayUnavailable(f"{name} has grown and its target hasn't.")
            time.sleep(0.1)

    def _trim(self, name: str, length: int) -> None:
        size_gib = model.gib(length)
        if self._client.volume(name).size_gib == size_gib:
            return
        try:
            self._client.resize(name, size_gib)
        except (exceptions.InvalidRequest, exceptions.NotSupported) as exc:
            # It is thin: what nobody wrote takes up nothing.
            LOG.debug("%(name)s stays larger than its image: %(why)s", {"name": name, "why": exc})
