# SPDX-License-Identifier: Apache-2.0
"""A program that runs on a node, in a container of the operator's own base image.

It is handed to that container's Python as text, and so needs nothing but the standard library
and what storlets have put on the node. One JSON object comes in by stdin, one goes out by stdout.

What is in a directory of pipes is hostile: a sandbox can write there. So its sockets are opened
without following links, which could lead to another account's.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import secrets
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

#: Where the container sees the node's directories.
PIPES, STORLETS, NATIVE = "/pipes", "/storlets", "/usr/local/lib/storlets"
FACTORY = "factory_pipe"
#: More than a pipe holds, so that both directions must work at once.
SAMPLE = 200_000
RENAME_EXCHANGE = 2
AT_FDCWD = -100

Reply = dict[str, Any]


class Unanswered(Exception):
    """Nobody listens at a pipe."""


class Channel:
    """A directory of pipes."""

    def __init__(self, name: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
        self.directory = os.open(os.path.join(PIPES, name), flags)

    @contextlib.contextmanager
    def pipe(self, name: str) -> Iterator[Any]:
        """Lend a client of storlets' own for one of the pipes.

        :raises Unanswered: there is none, or nobody listens.
        """
        client = importlib.import_module("storlets.sbus.client")
        errors = importlib.import_module("storlets.sbus.client.exceptions")
        try:
            flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(name, flags, dir_fd=self.directory)
        except OSError as exc:
            raise Unanswered(str(exc)) from exc
        try:
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                raise Unanswered(f"{name} is no socket")
            yield client.SBusClient(f"/proc/self/fd/{file}")
        except errors.SBusClientSendError as exc:
            raise Unanswered(f"nobody listens at {name}") from exc
        finally:
            os.close(file)

    def inode(self, name: str) -> int:
        """Return what tells a pipe from one of the same name; 0 when there is none."""
        try:
            return os.stat(name, dir_fd=self.directory, follow_symlinks=False).st_ino
        except OSError:
            return 0


def look(scope: str) -> Reply:
    """Tell which directory of pipes serves, and whose all of them are."""
    return {
        "serving": _identity(os.path.join(PIPES, scope)),
        "factory": _factory(scope),
        "owner": str(os.stat(PIPES).st_uid),
    }


def prepare(scope: str, beside: str) -> Reply:
    """Make a directory for the pipes of a new sandbox, and what else it and the exchange need."""
    _remove(os.path.join(PIPES, beside))
    for name in (scope, beside):
        path = os.path.join(PIPES, name)
        os.makedirs(path, exist_ok=True)
        # As the gateway has it: users in a sandbox may be others.
        os.chmod(path, 0o777)  # noqa: S103
    os.makedirs(os.path.join(STORLETS, scope), 0o755, exist_ok=True)
    return {"identity": _identity(os.path.join(PIPES, beside))}


def exchange(scope: str, beside: str) -> Reply:
    """Let two directories of pipes change places, in one step, and tell which one serves now."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = [os.fsencode(os.path.join(PIPES, name)) for name in (scope, beside)]
    if libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), paths[0])
    return {"serving": _identity(os.path.join(PIPES, scope))}


def discard(scope: str, beside: str, main: str) -> Reply:
    """Remove what a switch needed, and tell what serves: its pipe, and whether it answers."""
    _remove(os.path.join(PIPES, beside))
    _remove(os.path.join(STORLETS, scope, main))
    return {"factory": _factory(scope), **listens(scope)}


def listens(pipes: str) -> Reply:
    """Tell whether a sandbox answers, once it has done what it was told before."""
    try:
        with Channel(pipes).pipe(FACTORY) as factory:
            return {"listens": bool(factory.ping().status)}
    except (Unanswered, OSError):
        return {"listens": False}


def halt(pipes: str) -> Reply:
    """Let a sandbox end when all that it has been given is done, and wait for that."""
    try:
        with Channel(pipes).pipe(FACTORY) as factory:
            return {"halted": bool(factory.halt().status)}
    except (Unanswered, OSError):
        return {"halted": True}


def warm(pipes: str, daemons: list[Reply]) -> Reply:
    """Start storlets in a sandbox, anew where asked to, and tell which ones don't start."""
    failures = {}
    channel = Channel(pipes)
    for daemon in daemons:
        with channel.pipe(FACTORY) as factory:
            if daemon.pop("again"):
                factory.stop_daemon(daemon["storlet_id"])
            answer = factory.start_daemon(**daemon)
            if not answer.status:
                failures[daemon["storlet_id"]] = str(answer.message)[:200]
    return {"failures": failures}


def probe(
    scope: str, pipes: str, main: str, file: str, source: str, patience: float, daemon: Reply
) -> Reply:
    """Run a storlet that copies, in a new sandbox, and tell what was wrong with that.

    :param patience: seconds to wait until the sandbox answers at all.
    """
    channel = Channel(pipes)
    deadline = time.monotonic() + patience
    while not listens(pipes)["listens"]:
        if time.monotonic() > deadline:
            return {"answers": False, "failure": ""}
        time.sleep(0.02)
    _place(os.path.join(STORLETS, scope), main, file, source.encode())
    try:
        failure = warm(pipes, [dict(daemon)])["failures"].get(main, "")
        failure = failure or _copy(channel, main)
        with channel.pipe(FACTORY) as factory:
            factory.stop_daemon(main)
    finally:
        _remove(os.path.join(STORLETS, scope, main))
    with contextlib.suppress(OSError):
        os.unlink(main, dir_fd=channel.directory)
    return {"answers": True, "failure": failure, "factory": channel.inode(FACTORY)}


def _copy(channel: Channel, main: str) -> str:
    """Have something copied, and return what is wrong with the copy."""
    data, metadata = secrets.token_bytes(SAMPLE), {"Nonce": secrets.token_hex(16)}
    with contextlib.ExitStack() as files:
        source = _Pipe(files)
        target, described = _Pipe(files), _Pipe(files)
        log = os.open(os.devnull, os.O_WRONLY)
        files.callback(os.close, log)
        with channel.pipe(main) as client:
            remote = [
                _descriptor("INPUT_OBJECT", source.out, metadata),
                _descriptor("OUTPUT_OBJECT", target.into),
                _descriptor("OUTPUT_OBJECT_METADATA", described.into),
                _descriptor("LOGGER", log),
            ]
            answer = client.execute({"storlet_execution_path": ""}, remote)
        if not answer.status:
            return f"the storlet wasn't run: {str(answer.message)[:200]}"
        for theirs in (source.close_out, target.close_into, described.close_into):
            theirs()
        writer = threading.Thread(target=source.write, args=(data,), daemon=True)
        writer.start()
        try:
            same = json.loads(described.read(4096)) == metadata
        except ValueError:
            same = False
        if not same:
            return "a storlet's metadata came back changed"
        if target.read(SAMPLE) != data:
            return "a storlet's data came back changed"
    return ""


class _Pipe:
    def __init__(self, files: contextlib.ExitStack) -> None:
        self.out, self.into = os.pipe()
        self.close_out = self._closer(self.out, files)
        self.close_into = self._closer(self.into, files)

    def _closer(self, file: int, files: contextlib.ExitStack) -> Callable[[], None]:
        stack = contextlib.ExitStack()
        stack.callback(os.close, file)
        files.push(stack)
        return stack.close

    def write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            view = memoryview(data)
            while view:
                view = view[os.write(self.into, view[:65536]) :]
        self.close_into()

    def read(self, limit: int) -> bytes:
        """Read to the end, or a byte more than there should be."""
        data = b""
        while len(data) <= limit:
            more = os.read(self.out, limit + 1 - len(data))
            if not more:
                break
            data += more
        return data


def _descriptor(kind: str, file: int, metadata: Reply | None = None) -> Any:
    datagram = importlib.import_module("storlets.sbus.datagram")
    kinds = importlib.import_module("storlets.sbus.file_description")
    return datagram.SBusFileDescriptor(
        getattr(kinds, f"SBUS_FD_{kind}"), file, storage_metadata=metadata
    )


def _place(scope: str, main: str, file: str, source: bytes) -> None:
    """Write a storlet where sandboxes look for it; they may write there, too."""
    _remove(os.path.join(scope, main))
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    with contextlib.ExitStack() as files:
        parent = os.open(scope, flags)
        files.callback(os.close, parent)
        os.mkdir(main, 0o755, dir_fd=parent)
        directory = os.open(main, flags, dir_fd=parent)
        files.callback(os.close, directory)
        wanted = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(file, wanted, 0o644, dir_fd=directory), "wb") as target:
            target.write(source)


def _remove(path: str) -> None:
    # However deep a sandbox has made it, and without following its links.
    subprocess.run(["rm", "-rf", "--", path], check=True, stderr=subprocess.DEVNULL)


def _factory(pipes: str) -> int:
    try:
        return Channel(pipes).inode(FACTORY)
    except OSError:
        return 0


def _identity(path: str) -> str:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


ACTIONS: dict[str, Callable[..., Reply]] = {
    action.__name__: action
    for action in (look, prepare, discard, exchange, listens, halt, warm, probe)
}


def main() -> None:
    """Do what is asked; the kernel ends it when that takes too long."""
    request = json.load(sys.stdin)
    signal.alarm(request.pop("seconds"))
    sys.path.insert(0, os.path.join(NATIVE, "python"))
    json.dump(ACTIONS[request.pop("do")](**request), sys.stdout)


if __name__ == "__main__":
    main()
