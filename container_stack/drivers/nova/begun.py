# SPDX-License-Identifier: Apache-2.0
"""Images that this host has begun in Glance, and has to see to whatever dies in between.

They are snapshots on their way there, and parcels: what a server has written, on its way to another
host. Each has a record from before it exists until it is done with, and who sends a parcel keeps
that record until the move is over. Snapshots that a crash has cut short are deleted at the next
start, as Nova deletes others that fail; parcels when their servers are confirmed, reverted or gone.
"""

import contextlib
import enum
import logging
import os
from collections.abc import Iterator, Sequence
from typing import Any

from nova import context as nova_context
from nova import exception, service_auth
from nova.conf import service_token

from container_stack.host import records

LOG = logging.getLogger(__name__)

#: Of Glance: what has all of its data.
_WHOLE = ("active", "deactivated")


class Kind(enum.StrEnum):
    """What an image is to be."""

    SNAPSHOT = "snapshot"
    PARCEL = "parcel"


class Begun:
    """Records of such images, and their end.

    :param api: Nova's client of Glance.
    """

    def __init__(self, state_dir: str, api: Any) -> None:
        self._records = records.Records(os.path.join(state_dir, "glance"), durable=False)
        self._api = api

    def note(self, image_id: str, server_id: str, kind: Kind) -> None:
        """Remember an image; idempotent."""
        self._records.write(image_id, {"server": server_id, "kind": kind})

    @contextlib.contextmanager
    def snapshot(self, image_id: str, server_id: str) -> Iterator[None]:
        """Send a snapshot in the body; Nova itself deletes one that fails."""
        self.note(image_id, server_id, Kind.SNAPSHOT)
        try:
            yield
        finally:
            self.forget(image_id)

    def forget(self, image_id: str) -> None:
        """Be done with an image; idempotent."""
        self._records.remove(image_id)

    def parcel(self, server_id: str) -> str | None:
        """Return the image that a server has come, or has gone, by; None if there is none."""
        return next(iter(self._parcels(server_id)), None)

    def servers(self) -> Sequence[str]:
        """Return the ids of the servers of which there are parcels."""
        return [
            each["server"]
            for each in self._records.all().values()
            if each.get("kind") == Kind.PARCEL and each.get("server")
        ]

    def discard(self, context: Any, server_id: str) -> None:
        """Delete a server's parcels; one that can't be deleted now is a warning in the log."""
        for image_id in self._parcels(server_id):
            self._end(context, image_id)

    def who_sees(self, context: Any, image_id: str) -> Any:
        """Return in whose name an image can be read: the user of now may be another one."""
        for each in contexts(context):
            with contextlib.suppress(exception.ImageNotFound, exception.ImageNotAuthorized):
                self._api.get(each, image_id)
                return each
        return context

    def start(self) -> None:
        """Delete snapshots that nobody goes on with."""
        for image_id, record in self._records.all().items():
            if record.get("kind") != Kind.SNAPSHOT:
                continue
            if self._is_whole(image_id):
                self.forget(image_id)
            else:
                self._end(nova_context.get_admin_context(), image_id)

    def _parcels(self, server_id: str) -> Sequence[str]:
        return [
            image_id
            for image_id, each in self._records.all().items()
            if each.get("kind") == Kind.PARCEL and each.get("server") == server_id
        ]

    def _end(self, context: Any, image_id: str) -> None:
        """Delete an image by whoever may, and forget it when it is gone."""
        why: Exception | None = None
        for each in contexts(context):
            try:
                self._api.delete(each, image_id)
                why = None
                break
            except exception.ImageNotFound:
                # Or it isn't this one's to see.
                continue
            except Exception as exc:
                why = exc
        if why is None:
            self.forget(image_id)
        else:
            words = "Image %(image)s was begun by this host, and can be deleted by hand: %(why)s"
            LOG.warning(words, {"image": image_id, "why": why})

    def _is_whole(self, image_id: str) -> bool:
        for each in contexts(None):
            try:
                return self._api.get(each, image_id).get("status") in _WHOLE
            except Exception as exc:
                LOG.debug("Image %(image)s: %(why)s", {"image": image_id, "why": exc})
        return False


def contexts(context: Any) -> Iterator[Any]:
    """Yield in whose name Glance may be asked: a user's, if he has logged in, then Nova's own.

    Nova's own is what ``[service_user]`` says; as admin it sees everybody's images.
    """
    plugin = service_auth.get_service_auth_plugin(service_token.SERVICE_USER_GROUP)
    if plugin is None or (context is not None and context.auth_token):
        yield context
    if plugin is not None:
        yield nova_context.RequestContext(is_admin=True, user_auth_plugin=plugin)
