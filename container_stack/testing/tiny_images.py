# SPDX-License-Identifier: Apache-2.0
"""Image archives of a few hundred bytes, for tests that move images and run none."""

import dataclasses
import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Sequence

#: Label of an image that can't be used; its value is one of the faults below.
FAULT = "cstest.fault"
#: A sandbox of it doesn't pass the probe.
NO_PROBE = "probe"
#: A sandbox of it passes the probe and stops answering then.
SICK = "sick"


@dataclasses.dataclass(frozen=True, slots=True)
class Layer:
    """A layer.

    :param size: bytes.
    """

    diff_id: str
    size: int


class TinyImage:
    """An image as :class:`container_stack.storlets.archive.ImageArchive` would hold it.

    :param contents: what the layers consist of, the lowest first.
    :param fault: what is wrong with it, if anything.
    """

    def __init__(self, contents: Sequence[bytes], fault: str = "") -> None:
        self._contents = tuple(contents)
        self.layers = tuple(Layer(_digest(each), len(each)) for each in contents)
        self._config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {FAULT: fault} if fault else {}},
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            }
        ).encode()
        self.image_id = _digest(self._config)

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The layers' digests."""
        return tuple(layer.diff_id for layer in self.layers)

    def stream(self, skip: int = 0) -> Iterator[bytes]:
        """Yield the archive without its first ``skip`` layers."""
        yield from _pieces(self._archive(skip))

    def stream_size(self, skip: int = 0) -> int:
        """Return the bytes that :meth:`stream` yields."""
        return len(self._archive(skip))

    def _archive(self, skip: int) -> bytes:
        config = self.image_id.removeprefix("sha256:") + ".json"
        names = [f"{each.removeprefix('sha256:')}/layer.tar" for each in self.diff_ids]
        manifest = [{"Config": config, "RepoTags": None, "Layers": names}]
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as tar:
            _add(tar, "manifest.json", json.dumps(manifest).encode())
            _add(tar, config, self._config)
            for name, content in list(zip(names, self._contents, strict=True))[skip:]:
                _add(tar, name, content)
        return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _pieces(data: bytes, size: int = 4096) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()
