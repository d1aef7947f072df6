# SPDX-License-Identifier: Apache-2.0
"""Glance's store library as glance-api uses it, without glance-api."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import glance_store
from glance_store import exceptions as store_exceptions
from glance_store import multi_backend
from oslo_config import cfg

from container_stack.host import attach

NAME = "array"

CONF_FILE = """\
# What an operator writes in glance-api.conf; the demo's own values in place of defaults.
[DEFAULT]
enabled_backends = {name}:datera

[glance_store]
default_backend = {name}

[{name}]
datera_san_ip = {address}
datera_san_port = {port}
datera_san_login = {login}
datera_san_password = {password}
datera_ca_file = {ca_file}
datera_tenant_id = /root/images
datera_attach = libiscsi
datera_state_dir = {state_dir}
"""


class Backend:
    """The one store of a conf file, as written from :data:`CONF_FILE`."""

    def __init__(self, conf_file: Path) -> None:
        self._conf = cfg.CONF  # the library looks into no other
        self._conf.register_opt(cfg.DictOpt("enabled_backends"))
        self._conf([], project="glance", default_config_files=[str(conf_file)])
        multi_backend.register_store_opts(self._conf)
        multi_backend.create_multi_stores(self._conf)
        self._store = multi_backend.get_store_from_store_identifier(NAME)

    @property
    def writable(self) -> bool:
        """Whether the store is open to uploads."""
        return bool(self._store.is_capable(glance_store.capabilities.BitMasks.WRITE_ACCESS))

    def upload(self, image_id: str, stream: Any, size: int = 0) -> tuple[str, int, str]:
        """Return an image's location, its size and its SHA-512."""
        uri, stored, _md5, digest, _metadata = multi_backend.add_with_multihash(
            self._conf, image_id, stream, size, NAME, "sha512"
        )
        return uri, stored, digest

    def read(self, uri: str, offset: int = 0, length: int | None = None) -> Iterator[bytes]:
        """Yield an image, or a range of it."""
        found, _size = multi_backend.get(uri, NAME, offset=offset, chunk_size=length)
        yield from found

    def clone(self, image_id: str, clone_id: str, initiator: str) -> attach.Target:
        """Clone an image for one initiator."""
        target: attach.Target = self._store.clone(image_id, clone_id, initiator)
        return target

    def delete_clone(self, image_id: str, clone_id: str) -> None:
        """Delete a clone."""
        self._store.delete_clone(image_id, clone_id)

    def delete(self, uri: str) -> bool:
        """Delete an image; return whether the store obeyed."""
        try:
            multi_backend.delete(uri, NAME)
        except store_exceptions.InUseByStore:
            return False
        return True
