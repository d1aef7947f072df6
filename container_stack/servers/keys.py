# SPDX-License-Identifier: Apache-2.0
"""A user's public key in a server, for an SSH daemon in its image."""

import io
import tarfile

from container_stack import exceptions
from container_stack.host import containers

PATH = "root/.ssh/authorized_keys"
#: Bytes of the image's own file that are kept; more is no list of keys.
MOST = 1024 * 1024


def inject(engine: containers.Engine, container: str, key: str) -> None:
    """Let who has a key in as root, besides whom the image lets in; idempotent.

    :param container: one that has not started yet.
    :param key: a line as ssh-keygen writes it.
    :raises InvalidRequest: it isn't one line.
    """
    line = key.strip().encode()
    if not line or b"\n" in line or b"\0" in line:
        raise exceptions.InvalidRequest("A public key is one line.")
    there = _there(engine, container).splitlines()
    if line not in there:
        engine.put_archive(
            container, "/", _tar(b"".join(b"%s\n" % each for each in [*there, line]))
        )


def _there(engine: containers.Engine, container: str) -> bytes:
    """Return what the image has, if it is a plain file of a plausible size."""
    archive = bytearray()
    try:
        for piece in engine.get_archive(container, f"/{PATH}"):
            archive += piece
            if len(archive) > MOST:
                return b""
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.isreg() else None
            return file.read() if file is not None else b""
    except (exceptions.NotFound, tarfile.TarError):
        return b""


def _tar(content: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        directory = tarfile.TarInfo(PATH.rpartition("/")[0])
        directory.type, directory.mode = tarfile.DIRTYPE, 0o700
        tar.addfile(directory)
        file = tarfile.TarInfo(PATH)
        file.size, file.mode = len(content), 0o600
        tar.addfile(file, io.BytesIO(content))
    return buffer.getvalue()
