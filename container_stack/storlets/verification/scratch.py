# SPDX-License-Identifier: Apache-2.0
"""What a verification makes on its host, under one name, and how all of it goes again.

The name is that of a directory, of the scope that the gateway is given, and so of the candidate's
tag and of its sandbox. It is longer than an account's scope can be. The directory comes first and
goes last, and is locked while its process lives: what a killed one left, the next one finds.
"""

import contextlib
import dataclasses
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator

from container_stack import exceptions
from container_stack.host import containers, images, locks

_NAME = re.compile(r"cs-[0-9a-f]{12}")
_LOCK, _RECORD = "lock", "record"
#: To remove what is just being made.
_ATTEMPTS = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Engine:
    """The engine of this host."""

    url: str
    containers: containers.Engine
    images: images.Images


@dataclasses.dataclass(frozen=True, slots=True)
class Scratch:
    """One verification's own.

    :param directory: nobody but its owner may enter it.
    """

    engine: Engine
    directory: str

    @property
    def scope(self) -> str:
        """What the gateway is told to be the account."""
        return os.path.basename(self.directory)

    @property
    def reference(self) -> str:
        """The candidate's name in the engine."""
        return f"{self.scope}:latest"

    @property
    def sandbox(self) -> str:
        """The container that the gateway makes."""
        return f"{self.scope}_{self.scope}"

    @property
    def options(self) -> dict[str, str]:
        """What the gateway's configuration must say, so that only our own things are touched.

        There is no default image that could run in the candidate's place, and sandboxes of others
        don't count. A ping every 0.5 s, as the gateway has it, would be waiting for nothing.
        """
        directories = {"pipes_dir": "p", "storlets_dir": "s", "log_dir": "l", "cache_dir": "c"}
        return {
            "host_root": self.directory,
            **{name: os.path.join(self.directory, each) for name, each in directories.items()},
            "default_docker_image_name": f"{self.scope}-none",
            "default_container_image_name": f"{self.scope}-none",
            "max_containers_per_node": "0",
            "sandbox_ping_interval": "0.05",
        }

    def record(self, image_id: str) -> None:
        """Note an image that is about to be brought into the engine, to be removed again."""
        _write(self.directory, {"engine": self.engine.url, "image": image_id})

    def remove(self) -> None:
        """Remove the sandbox, and the image unless somebody else has it."""
        self._remove_name()
        image = self.engine.images.find(_recorded(self.directory).get("image") or self.reference)
        if image is not None and not image.tags:
            # Somebody else may run it by its ID.
            with contextlib.suppress(exceptions.Busy):
                self.engine.images.remove(image.id)

    def _remove_name(self) -> None:
        """Remove sandbox and tag; a gateway that was killed may just have ordered one more."""
        for attempt in range(_ATTEMPTS):
            self.engine.containers.remove(self.sandbox)
            try:
                self.engine.images.remove(self.reference)
                return
            except exceptions.Busy:
                if attempt == _ATTEMPTS - 1:
                    raise
                time.sleep(0.1)


@contextlib.contextmanager
def lend(directory: str, engine: Engine) -> Iterator[Scratch]:
    """Lend a new scratch, after removing what killed ones of this engine left.

    :param directory: where they are; made if need be. Short: names of sockets come below it.
    :raises HostNotReady: others may write there.
    :raises EngineUnavailable: nothing was made.
    """
    _secure(directory)
    engine.containers.version()
    with _alone(directory):
        _sweep(directory, engine)
        path = os.path.join(directory, f"cs-{secrets.token_hex(6)}")
        os.mkdir(path, 0o700)
        mine = locks.lock(os.path.join(path, _LOCK))
    scratch = Scratch(engine, path)
    try:
        scratch.record("")
        yield scratch
    finally:
        try:
            scratch.remove()
            with _alone(directory):
                empty(path)
        finally:
            os.close(mine)


@contextlib.contextmanager
def _alone(directory: str) -> Iterator[None]:
    """Let nobody else look which directories there are: one that goes loses its lock first."""
    fd = locks.lock(os.path.join(directory, _LOCK))
    try:
        yield
    finally:
        os.close(fd)


def _sweep(directory: str, engine: Engine) -> None:
    for name in sorted(filter(_NAME.fullmatch, os.listdir(directory))):
        path = os.path.join(directory, name)
        try:
            fd = locks.lock(os.path.join(path, _LOCK), wait=False)
        except exceptions.Busy:
            continue
        try:
            if _recorded(path).get("engine", engine.url) == engine.url:
                Scratch(engine, path).remove()
                empty(path)
        finally:
            os.close(fd)


def _secure(directory: str) -> None:
    os.makedirs(directory, 0o711, exist_ok=True)
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise exceptions.HostNotReady(
            f"{directory} must be a directory of this user's that nobody else may write to; "
            "remove it, or choose another."
        )


def _write(directory: str, record: dict[str, str]) -> None:
    draft = os.path.join(directory, f"{_RECORD}.new")
    with open(draft, "w", encoding="utf-8") as file:
        json.dump(record, file)
    os.rename(draft, os.path.join(directory, _RECORD))


def _recorded(directory: str) -> dict[str, str]:
    try:
        with open(os.path.join(directory, _RECORD), encoding="utf-8") as file:
            return dict(json.load(file))
    except (OSError, ValueError):
        return {}


def empty(top: str) -> None:
    """Remove a directory in which a sandbox could do as it liked.

    Directories are moved up first: neither depth nor length of a path is the sandbox's choice.
    """
    while below := _unlink(top):
        for path in below:
            for each in _unlink(path):
                os.rename(each, os.path.join(top, secrets.token_hex(12)))
            os.rmdir(path)
    for name in (_RECORD, _LOCK):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(top, name))
    os.rmdir(top)


def _unlink(directory: str) -> list[str]:
    """Remove what is no directory, but for our own files, and return the directories."""
    os.chmod(directory, 0o700)
    below = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
            elif entry.name not in (_LOCK, _RECORD):
                os.unlink(entry.path)
    return below
