# SPDX-License-Identifier: Apache-2.0
"""Images of servers for tests, made whole from Debian packages with busybox as their shell."""

import contextlib
import dataclasses
import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from container_stack.host import images
from container_stack.shares import debian

CHANGES = ('ENTRYPOINT ["/usr/bin/tini", "-g", "--"]', "ENV PATH=/usr/sbin:/usr/bin")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is in an image.

    :param packages: whose dependencies are there, too.
    :param files: texts by path.
    :param kept: paths that stay though they are documentation.
    """

    name: str
    packages: tuple[str, ...]
    files: Mapping[str, str]
    kept: tuple[str, ...] = ()

    def reference(self) -> str:
        """Return the image's name, which changes with what is in it."""
        parts = repr((sorted(self.packages), sorted(self.files.items()), self.kept, CHANGES))
        return f"cstest-{self.name}:{hashlib.sha256(parts.encode()).hexdigest()[:12]}"

    def made(self, engine_images: images.Images) -> str:
        """Return the image's name; it is made unless the engine has it."""
        if engine_images.find(self.reference()) is None:
            with tempfile.TemporaryDirectory(prefix=f"cstest-{self.name}.") as name:
                directory = Path(name)
                packages = (*self.packages, "busybox-static", "tini")
                debs = debian.download(packages, directory, lambda phase, done, total: None)
                self._unpack(debs, directory / "root")
                with tempfile.TemporaryFile(dir=directory) as archive:
                    with tarfile.open(fileobj=archive, mode="w") as tar:
                        tar.add(directory / "root", arcname=".", filter=_owned_by_root)
                    archive.seek(0)
                    chunks = iter(lambda: archive.read(images.CHUNK), b"")
                    engine_images.import_tar(chunks, self.reference(), CHANGES)
        return self.reference()

    def _unpack(self, debs: list[str], root: Path) -> None:
        for name in ("bin", "sbin", "lib", "lib64"):
            (root / "usr" / name).mkdir(parents=True)
            (root / name).symlink_to(f"usr/{name}")
        for deb in debs:
            with subprocess.Popen(
                ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
            ) as out:
                argv = ["tar", "-x", "-C", str(root), "--keep-directory-symlink"]
                argv += ["--no-same-owner", "--exclude=./usr/share/man"]
                argv += ["--exclude=./usr/share/locale"]
                subprocess.run(argv, stdin=out.stdout, check=True)
        self._drop_documentation(root / "usr/share/doc", root)
        for name in ("dev", "etc", "proc", "run", "sys", "tmp"):
            (root / name).mkdir(exist_ok=True)
        for name, text in self.files.items():
            (root / name).write_text(text)
        busybox = root / "usr/bin/busybox"
        listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
        for applet in listed.stdout.split():
            with contextlib.suppress(FileExistsError):
                (root / "usr/bin" / applet).symlink_to("busybox")

    def _drop_documentation(self, doc: Path, root: Path) -> None:
        kept = {root / name for name in self.kept}
        for path in doc.rglob("*"):
            if not path.is_dir() and path not in kept:
                path.unlink()


def _owned_by_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
