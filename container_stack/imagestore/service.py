# SPDX-License-Identifier: Apache-2.0
"""Images on an array: stored, read, cloned and deleted.

::

    with store.open("7a3b…", offset=4096, length=512) as reader:
        data = b"".join(reader)

An image is an app instance ``OS-IMAGE-<id>``. Nothing is kept in memory that a restart would
lose: the array tells which images there are, and the journal what this host was about to do.
"""

import logging
import os
from collections.abc import Iterable

from container_stack import exceptions
from container_stack.host import attach
from container_stack.imagestore import (
    clones,
    edf,
    journal,
    model,
    pipeline,
    reader,
    sessions,
    upload,
)

LOG = logging.getLogger(__name__)

#: What Glance asks for: a checksum for old clients and a hash for new ones.
ALGORITHMS = ("md5", "sha512")


class ImageStore:
    """The images of one array and tenant; threads and processes may share it.

    Two uploads, or an upload and a deletion, of one image exclude each other, also between hosts.
    Any method may raise ArrayUnavailable, AccessDenied and HostNotReady.

    :param attacher: shared attachments, or whatever attaches.
    :param records: of this host and of the client's array and tenant.
    :param name: of the back end, for logs.
    :param chunk_size: most bytes that are read or written at once.
    :param first_size_gib: of the volume for an image whose size nobody tells.
    """

    def __init__(
        self,
        client: edf.Client,
        attacher: attach.Attacher,
        records: journal.Journal,
        *,
        name: str = "datera",
        chunk_size: int = pipeline.PIECE,
        first_size_gib: int = 1,
        replica_count: int = 3,
        placement_mode: str = "hybrid",
    ) -> None:
        self.name = name
        self._client = client
        self._clones = clones.Clones(client)
        self._journal = records
        self._piece = min(chunk_size, pipeline.PIECE)
        self._sessions = sessions.Sessions(
            client, attacher, os.path.join(records.directory, "sessions")
        )
        policy = upload.Policy(self._piece, first_size_gib, replica_count, placement_mode)
        self._uploads = upload.Uploads(client, self._sessions, records, policy)

    def add(
        self,
        image_id: str,
        stream: pipeline.Source,
        size: int = 0,
        *,
        algorithms: Iterable[str] = ALGORITHMS,
        verifier: pipeline.Verifier | None = None,
    ) -> model.Stored:
        """Store what a stream holds as a new image.

        If this fails, nothing stays; if the array doesn't even answer for that, or this process
        dies, :meth:`recover` finishes the job. What the stream raises comes through as it is.

        :param size: bytes that the stream must have; 0: any number.
        :raises AlreadyExists: the image exists, or somebody is storing it; that goes on.
        :raises InvalidRequest: the stream is longer or shorter, or a digest is unknown.
        :raises NoSpace: the array is full.
        """
        digests = pipeline.Digests(algorithms)
        self._recover_quietly()
        try:
            entry = self._journal.take(image_id)
        except exceptions.Busy as exc:
            raise exceptions.AlreadyExists(f"Image {image_id} is being stored already.") from exc
        with entry:
            stored = self._uploads.run(entry, stream, size, digests, verifier)
        LOG.info(
            "Stored image %(id)s, %(size)d bytes, in %(store)s",
            {"id": image_id, "size": stored.size, "store": self.name},
        )
        return stored

    def open(self, image_id: str, offset: int = 0, length: int | None = None) -> reader.Reader:
        """Return an image, or a range of it, as pieces; close it unless you read to the end.

        :param length: bytes; None: to the end. More than there are is as many as there are.
        :raises NotFound: there is no such image.
        :raises InvalidRequest: the range begins before the image or behind it.
        """
        name, size = model.image_name(image_id), self.size(image_id)
        length = size - offset if length is None else min(length, size - offset)
        if offset < 0 or length < 0:
            raise exceptions.InvalidRequest(
                f"Image {image_id} has {size} bytes, no range that begins at {offset}."
            )
        if self._client.app_instance(name).admin_state != "online":
            self._client.set_online(name, True)
        session = self._sessions.open(name, read_only=True)
        return reader.Reader(
            session.device,
            session.close,
            size=size,
            offset=offset,
            length=length,
            piece=self._piece,
        )

    def size(self, image_id: str) -> int:
        """Return the bytes of an image.

        :raises NotFound: there is no such image, or it isn't finished.
        """
        size = model.length(self._client.metadata(model.image_name(image_id)))
        if size is None:
            raise exceptions.NotFound(f"Image {image_id} is not finished.")
        return size

    def delete(self, image_id: str) -> None:
        """Delete an image. Who reads it on another host is cut off.

        :raises NotFound: there is no such image.
        :raises Busy: it has clones, is being read on this host, or is being stored.
        """
        name = model.image_name(image_id)
        with self._journal.take(image_id) as entry:
            self._uploads.finish(entry)
        with self._sessions.alone(name):
            instance = self._client.app_instance(name)
            self._check_unused(image_id)
            # By its UUID: nothing else that got the name since then.
            if not self._client.delete_app_instance(instance.uuid):
                raise exceptions.NotFound(f"Image {image_id} was deleted in this moment.")
        LOG.info("Deleted image %(id)s from %(store)s", {"id": image_id, "store": self.name})

    def clone(self, image_id: str, clone_id: str, initiator: str = "") -> attach.Target:
        """Clone an image for a server to boot from; return where to attach the clone.

        Idempotent; a clone that exists stays as it is.

        :param initiator: name (IQN) of who may attach it, besides those who may already.
        :raises NotFound: there is no such image, or it isn't finished.
        """
        with self._sessions.hold(model.image_name(image_id)):
            self.size(image_id)
            return self._clones.make(image_id, clone_id, initiator)

    def delete_clone(self, image_id: str, clone_id: str) -> bool:
        """Delete a clone with all that was written to it, whoever uses it.

        :returns: whether there was one.
        """
        return self._clones.remove(image_id, clone_id)

    def recover(self) -> list[str]:
        """Remove what uploads of this host left that failed or died, and return their ids.

        Uploads that live, in whatever process, go on. Call it at every start.
        """
        reaped = []
        for entry in self._journal.left():
            with entry:
                if self._uploads.finish(entry):
                    reaped.append(entry.image_id)
        self._sessions.recover()
        return reaped

    def _recover_quietly(self) -> None:
        try:
            self.recover()
        except exceptions.ContainerStackError as exc:
            LOG.warning("Failed uploads are left for later: %(why)s", {"why": exc})

    def _check_unused(self, image_id: str) -> None:
        noted = self._client.metadata(model.image_name(image_id))
        if model.length(noted) is None:
            raise exceptions.Busy(
                f"Image {image_id} is being stored by host {noted.get('host', 'unknown')}, "
                "or is an orphan of that."
            )
        clones_of = self._clones.of(image_id)
        if clones_of:
            raise exceptions.Busy(f"{len(clones_of)} clones depend on image {image_id}.")
