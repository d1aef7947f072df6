# SPDX-License-Identifier: Apache-2.0
"""Nova's own stand-in for Glance, whose images are archives that an engine takes."""

import hashlib
from typing import Any

from nova.tests import fixtures as nova_fixtures

#: What Nova's tests boot from: image 5 where they have a choice, 2 for the driver's contract.
IMAGE = nova_fixtures.GlanceFixture.image5["id"]


class DockerGlance(nova_fixtures.GlanceFixture):  # type: ignore[misc]
    """Keeps what is uploaded, as Glance does and Nova's stand-in doesn't.

    All images are the same archive until another is uploaded.
    """

    #: Set by the tests' own fixture.
    archive = b""

    def setUp(self) -> None:
        super().setUp()
        for image_id in list(self.images):
            self._keep(image_id, self.archive)

    def update(
        self,
        context: Any,
        image_id: str,
        metadata: Any,
        data: Any = None,
        purge_props: bool = False,
    ) -> Any:
        found = super().update(context, image_id, metadata, data, purge_props)
        if data is not None:
            self._keep(image_id, _all(data))
            found["status"] = "active"
        return found

    def create(self, context: Any, metadata: Any, data: Any = None) -> Any:
        found = super().create(context, metadata, None)
        if data is not None:
            self._keep(found["id"], _all(data))
        return found

    def _keep(self, image_id: str, archive: bytes) -> None:
        if not hasattr(self, "_imagedata"):
            self._imagedata = {}
        self._imagedata[image_id] = archive
        self.images[image_id].update(
            container_format="docker",
            disk_format="raw",
            size=len(archive),
            os_hash_algo="sha512",
            os_hash_value=hashlib.sha512(archive).hexdigest(),
            properties={},
        )


def _all(file: Any) -> bytes:
    pieces = []
    while piece := file.read(65536):
        pieces.append(piece)
    return b"".join(pieces)
