# SPDX-License-Identifier: Apache-2.0
"""Putting an image store together from plain values: what a driver or your own service calls."""

import dataclasses

from container_stack.host import attach, attach_choose, attach_shared
from container_stack.imagestore import edf, journal, service


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How images are to be kept on an array.

    :param name: of the store; for logs.
    :param attacher: entry-point name of the way to reach volumes; None for one that works here.
    :param state_dir: directory for the journal; this process must own it, restarts must not
        empty it.
    :param chunk_size: most bytes that go to or from a volume at once.
    :param first_size_gib: what the volume of an image starts with whose size nobody tells.
    :param replica_count: copies of a new image, 1 to 5.
    :param placement_mode: media of new images, as the array names them.
    """

    name: str
    endpoint: edf.Endpoint
    state_dir: str
    attacher: str | None = None
    attach_options: attach.Options = dataclasses.field(default_factory=attach.Options)
    chunk_size: int = 1024**3
    first_size_gib: int = 1
    replica_count: int = 3
    placement_mode: str = "hybrid"


def open_images(settings: Settings) -> service.ImageStore:
    """Return an image store. The array is contacted when it is used.

    :raises InvalidRequest: the settings contradict each other.
    :raises NotFound: there is no way of attaching of this name.
    :raises HostNotReady: this host lacks what it needs to attach volumes.
    """
    endpoint = settings.endpoint
    return service.ImageStore(
        edf.Client(endpoint),
        attach_shared.SharedAttachments(
            attach_choose.choose(settings.attacher, settings.attach_options)
        ),
        journal.Journal(settings.state_dir, endpoint.url, endpoint.tenant_path),
        name=settings.name,
        chunk_size=settings.chunk_size,
        first_size_gib=settings.first_size_gib,
        replica_count=settings.replica_count,
        placement_mode=settings.placement_mode,
    )


def check(settings: Settings, *, wait: bool = False) -> None:
    """Log in to the array, and make the tenant if need be.

    :param wait: try for as long as the endpoint says; otherwise once.
    :raises ArrayUnavailable: it doesn't answer.
    :raises AccessDenied: it refuses the login or the tenant.
    :raises HostNotReady: its certificate isn't trusted.
    """
    endpoint = settings.endpoint
    client = edf.Client(endpoint if wait else dataclasses.replace(endpoint, retry_attempts=0))
    try:
        client.login()
        client.ensure_tenant()
    finally:
        client.close()
