# SPDX-License-Identifier: Apache-2.0
"""Glance: images on volumes of a Datera array.

In glance-api.conf::

    [DEFAULT]
    enabled_backends = fast:datera
    [glance_store]
    default_backend = fast
    [fast]
    datera_san_ip = 192.0.2.7

This module turns glance_store's words into those of :mod:`container_stack.imagestore` and back.
The contract is that of ``glance_store.driver.Store`` in glance_store 5.7.
"""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from glance_store import capabilities, driver, location
from glance_store import exceptions as store_exceptions
from glance_store.common import utils
from oslo_config import cfg
from oslo_log import log

from container_stack import exceptions
from container_stack.conf import glance as conf
from container_stack.host import attach
from container_stack.imagestore import assembly, reader, service

LOG = log.getLogger(__name__)

SCHEME = "datera"

# Datera's own driver named its app instances the same, and wrote
# datera://ADDRESS:PORT/app_instances/ID.
_URI = re.compile(rf"{SCHEME}://(?P<host>[^/]+)/(app_instances/(OS-)?(IMAGE-)?)?(?P<id>[^/]+)")

_Names = tuple[tuple[type[Exception], type[Exception]], ...]

#: What each of our errors becomes, the first that fits; after it, what Glance answers.
_ADDING: _Names = (
    (exceptions.AlreadyExists, store_exceptions.Duplicate),
    (exceptions.NoSpace, store_exceptions.StorageFull),  # 413
    (exceptions.InvalidRequest, store_exceptions.Invalid),  # 400
    # Also NotFound: at an upload Glance takes that for an image deleted meanwhile.
    (exceptions.ContainerStackError, store_exceptions.StorageWriteDenied),  # 503
)
_READING: _Names = (
    (exceptions.NotFound, store_exceptions.NotFound),  # 204
    (exceptions.InvalidRequest, store_exceptions.Invalid),
    (exceptions.ContainerStackError, store_exceptions.RemoteServiceUnavailable),  # 503
)
_DELETING: _Names = (
    (exceptions.NotFound, store_exceptions.NotFound),
    (exceptions.Busy, store_exceptions.InUseByStore),  # 409
    (
        exceptions.ContainerStackError,
        # 503. Earlier releases don't have it.
        getattr(store_exceptions, "TimeoutError", store_exceptions.RemoteServiceUnavailable),
    ),
)


class StoreLocation(location.StoreLocation):  # type: ignore[misc]
    """``datera://BACKEND/IMAGE-ID``; a single store's BACKEND is ``datera``."""

    def process_specs(self) -> None:
        self.host: str = self.backend_group or SCHEME
        self.image_id: str = self.specs["image_id"]

    def get_uri(self) -> str:
        """Return the location as Glance's database keeps it."""
        return f"{SCHEME}://{self.host}/{self.image_id}"

    def parse_uri(self, uri: str) -> None:
        """Take the image from a location.

        :raises BadStoreUri: it is none of ours.
        """
        found = _URI.fullmatch(uri)
        if found is None or not utils.is_uuid_like(found["id"]):
            raise store_exceptions.BadStoreUri(uri=uri)
        self.host, self.image_id = found["host"], found["id"]


class Store(driver.Store):  # type: ignore[misc]
    """Keeps each image on a volume of an array; native threads may share it."""

    _CAPABILITIES = capabilities.BitMasks.RW_RANDOM | capabilities.BitMasks.DRIVER_REUSABLE
    OPTIONS = conf.OPTS
    EXAMPLE_URL = f"{SCHEME}://<backend>/<image id>"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._name = self.backend_group or SCHEME
        self._url_prefix = f"{SCHEME}://{self._name}/"
        self._settings: assembly.Settings
        self._service: service.ImageStore | None = None
        self._started = False

    def get_schemes(self) -> tuple[str, ...]:
        """Return the schemes of this store's locations."""
        return (SCHEME,)

    # Start --------------------------------------------------------------------------------

    def configure_add(self) -> None:
        """Log in to the array, and finish what a crash left.

        An array that doesn't answer may do so later: the store stays open, and the next upload
        tries again.

        :raises BadStoreConfiguration: no upload could ever succeed; glance_store logs why, closes
            the store to uploads and goes on.
        """
        try:
            self._settings = conf.settings(self._option, self._name)
            self._service = assembly.open_images(self._settings)
            self._start(wait=False)
        except exceptions.ArrayUnavailable as exc:
            LOG.warning("Store %(store)s: %(why)s", {"store": self._name, "why": exc})
        except (cfg.Error, exceptions.ContainerStackError) as exc:
            raise store_exceptions.BadStoreConfiguration(
                store_name=self._name, reason=str(exc)
            ) from exc

    def _start(self, *, wait: bool) -> None:
        if self._started:
            return
        assembly.check(self._settings, wait=wait)
        reaped = self._images().recover()
        self._started = True
        if reaped:
            words = {"store": self._name, "ids": ", ".join(reaped)}
            LOG.info("Store %(store)s: removed what a crash left: %(ids)s", words)

    def _option(self, name: str) -> Any:
        if self.backend_group is None:
            return self.conf.glance_store[name]
        found = driver.BackendGroupConfiguration(self.OPTIONS, self.backend_group, self.conf)
        return getattr(found, name)

    def _images(self) -> service.ImageStore:
        if self._service is None:
            raise exceptions.HostNotReady(
                f"Store {self._name} isn't configured; glance-api's log says why since its start."
            )
        return self._service

    # Images -------------------------------------------------------------------------------

    @driver.back_compat_add  # type: ignore[untyped-decorator]
    @capabilities.check  # type: ignore[untyped-decorator]
    def add(
        self,
        image_id: str,
        image_file: Any,
        image_size: int,
        hashing_algo: str,
        context: Any = None,
        verifier: Any = None,
    ) -> tuple[str, int, str, str, dict[str, str]]:
        """Store an image; return its location, size, md5, multihash, and which store has it.

        Whatever fails, also ``image_file`` itself, nothing stays on the array.

        :param image_size: bytes; 0 when nobody knows.
        :raises Duplicate: this store has an image of this id.
        :raises Invalid: the image has another size.
        :raises StorageFull: the array is full.
        :raises StorageWriteDenied: the array can't be used now.
        """
        with _translated(_ADDING):
            self._start(wait=True)
            stored = self._images().add(
                image_id,
                image_file,
                image_size,
                algorithms=("md5", hashing_algo),
                verifier=verifier,
            )
        specs = {"image_id": image_id}
        uri = StoreLocation(specs, self.conf, backend_group=self.backend_group).get_uri()
        metadata = {"store": self.backend_group} if self.backend_group else {}
        return uri, stored.size, stored.digests["md5"], stored.digests[hashing_algo], metadata

    @capabilities.check  # type: ignore[untyped-decorator]
    def get(
        self,
        location: location.Location,
        offset: int = 0,
        chunk_size: int | None = None,
        context: Any = None,
    ) -> tuple[reader.Reader, int]:
        """Return an image's bytes from ``offset`` on, and how many they are.

        :param chunk_size: how many at most; None for all.
        :raises NotFound: this store has no such image.
        :raises RemoteServiceUnavailable: the array can't be used now.
        """
        image_id = location.store_location.image_id
        with _translated(_READING):
            found = self._images().open(image_id, offset, chunk_size)
        return found, found.length

    def get_size(self, location: location.Location, context: Any = None) -> int:
        """Return how many bytes an image has.

        :raises NotFound: this store has no such image.
        :raises RemoteServiceUnavailable: the array can't be used now.
        """
        image_id = location.store_location.image_id
        with _translated(_READING):
            return self._images().size(image_id)

    @capabilities.check  # type: ignore[untyped-decorator]
    def delete(self, location: location.Location, context: Any = None) -> None:
        """Delete an image.

        :raises NotFound: this store has no such image.
        :raises InUseByStore: clones of it exist.
        """
        image_id = location.store_location.image_id
        with _translated(_DELETING):
            self._images().delete(image_id)

    def set_acls(
        self,
        location: location.Location,
        public: bool = False,
        read_tenants: Any = None,
        write_tenants: Any = None,
        context: Any = None,
    ) -> None:
        """Do nothing: Glance alone decides who sees an image; nobody else reaches its volume."""

    # For operators' own services ----------------------------------------------------------

    def clone(self, image_id: str, clone_id: str, initiator: str = "") -> attach.Target:
        """Clone an image for a server to boot from; return where to attach the clone. Idempotent.

        :param initiator: name (IQN) of who may attach it, besides those who may already.
        :raises NotFound: this store has no such image.
        """
        with _translated(_READING):
            return self._images().clone(image_id, clone_id, initiator)

    def delete_clone(self, image_id: str, clone_id: str) -> bool:
        """Delete a clone with all that was written to it; return whether there was one."""
        with _translated(_DELETING):
            return self._images().delete_clone(image_id, clone_id)


@contextlib.contextmanager
def _translated(names: _Names) -> Iterator[None]:
    """Raise the core's errors as glance_store's, so that Glance answers what it should."""
    try:
        yield
    except exceptions.ContainerStackError as exc:
        kind = next(theirs for ours, theirs in names if isinstance(exc, ours))
        raise kind(str(exc)) from exc
