# SPDX-License-Identifier: Apache-2.0
"""Images of a few kilobytes, for tests that move images and run none."""

import io
from collections.abc import Sequence

from container_stack.storlets.image import archive
from container_stack.testing import image_archives

#: Label of an image that can't be used; its value is one of the faults below.
FAULT = "cstest.fault"
#: A sandbox of it doesn't pass the probe.
NO_PROBE = "probe"
#: A sandbox of it passes the probe and stops answering then.
SICK = "sick"


def make(contents: Sequence[bytes], fault: str = "") -> archive.ImageArchive:
    """Return an image.

    :param contents: what the layers consist of, the lowest first; not even tar archives.
    :param fault: what is wrong with it, if anything.
    """
    labels = {"Labels": {FAULT: fault}} if fault else {}
    data = image_archives.build(contents, {"config": labels})
    return archive.ImageArchive.open(io.BytesIO(data), len(data))


def diff_ids(image: archive.ImageArchive) -> tuple[str, ...]:
    """Return an image's layers as nodes want them."""
    return tuple(layer.diff_id for layer in image.layers)
