# SPDX-License-Identifier: Apache-2.0
"""The share servers' image, as an operator makes it."""

import contextlib
import importlib.resources
import io
import subprocess
import sys
import tarfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import docker

from container_stack.shares import image

from . import host

#: Files of ours in the image, with their names in the package.
_OURS = {
    "/usr/libexec/domain-member": "domain-member",
    "/usr/libexec/ldap-reader": "ldap-reader",
    "/usr/libexec/nfs-server": "nfs-server",
    "/usr/libexec/share-server": "share-server",
    "/etc/samba/smb.conf": "smb.conf",
}
_PROGRAM = Path(sys.prefix) / "bin/container-stack"


@contextlib.contextmanager
def current_image() -> Iterator[str]:
    """Yield an image that was made from this source; if it must be made, it goes in the end."""
    with host.engine() as client:
        if client.images.list(name=image.REFERENCE) and _is_current(client, image.REFERENCE):
            yield image.REFERENCE
            return
        reference = f"cstest-samba-{uuid.uuid4().hex[:8]}"
        subprocess.run([_PROGRAM, "image", "build", "samba", "--tag", reference], check=True)
        yield reference
        client.images.remove(reference, force=True)


def _is_current(client: docker.DockerClient, reference: str) -> bool:
    source = importlib.resources.files("container_stack.shares") / "image"
    container = client.containers.create(reference)
    try:
        for path, name in _OURS.items():
            chunks, _stat = container.get_archive(path)
            with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as tar:
                file = tar.extractfile(tar.getmembers()[0])
                if file is None or file.read() != (source / name).read_bytes():
                    return False
    finally:
        container.remove()
    return True
