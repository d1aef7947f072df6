# SPDX-License-Identifier: Apache-2.0
"""An image for tests, made from the busybox of this machine: no registry is needed."""

import io
import shutil
import subprocess
import tarfile

import pytest

from container_stack.host import images

CHANGES = ("ENV PATH=/bin", 'CMD ["sleep", "3600"]')
DIRECTORIES = {"bin": 0o755, "etc": 0o755, "proc": 0o755, "sys": 0o755, "dev": 0o755, "tmp": 0o1777}


def root_file_system() -> bytes:
    """Return a tar archive with busybox and a link for each of its applets."""
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.fail("These tests need busybox-static; apt-get install busybox-static.")
    applets = subprocess.run([busybox, "--list"], check=True, capture_output=True, text=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, mode in DIRECTORIES.items():
            tar.addfile(_member(name, tarfile.DIRTYPE, mode))
        tar.add(busybox, "bin/busybox", filter=_owned_by_root)
        for applet in applets.stdout.split():
            if applet != "busybox":
                link = _member(f"bin/{applet}", tarfile.SYMTYPE, 0o777)
                link.linkname = "busybox"
                tar.addfile(link)
        add_file(tar, "etc/passwd", b"root:x:0:0:root:/:/bin/sh\nguest:x:1000:1000::/:/bin/sh\n")
    return buffer.getvalue()


def add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = _member(name, tarfile.REGTYPE, 0o644)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def import_image(engine_images: images.Images, reference: str) -> images.Image:
    return engine_images.import_tar(io.BytesIO(root_file_system()), reference, CHANGES)


def _member(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.mode = kind, mode
    return member


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o755
    return member
