# SPDX-License-Identifier: Apache-2.0
"""A program that runs on a node, in a container of the operator's own base image.

It is handed to that container's Python as text, and so needs nothing but the standard library
and what storlets have put on the node. Each line of JSON that comes in is answered by one, until
there are no more.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable

from container_stack.storlets.node import agent_pipes as sandboxes
from container_stack.storlets.node.agent_pipes import FACTORY, PIPES, Channel, Reply, Unanswered

#: Where the container sees the node's directories.
STORLETS, NATIVE = "/storlets", "/usr/local/lib/storlets"
RENAME_EXCHANGE = 2
AT_FDCWD = -100
#: Seconds until a storlet that somebody starts must answer.
PATIENCE = 15
#: Storlets of switches that are removed at once, and the seconds that this may take: sandboxes may
#: make any number of them.
MOST, REMOVAL = 64, 10
#: Characters of what stands against a removal.
MESSAGE = 300


def look(scope: str) -> Reply:
    """Tell which directory of pipes serves, and whose all of them are."""
    return {
        "serving": _identity(os.path.join(PIPES, scope)),
        "factory": _factory(scope),
        "owner": str(os.stat(PIPES).st_uid),
    }


def prepare(scope: str, beside: str, main: str, file: str, source: str) -> Reply:
    """Make a directory for the pipes of a new sandbox, and what else a switch needs.

    :param main: of a storlet, whose ``file`` gets ``source``; nobody may know the name yet.
    """
    _remove(os.path.join(PIPES, beside))
    for name in (scope, beside):
        path = os.path.join(PIPES, name)
        os.makedirs(path, exist_ok=True)
        # As the gateway has it: users in a sandbox may be others.
        os.chmod(path, 0o777)  # noqa: S103
    os.makedirs(os.path.join(STORLETS, scope), 0o755, exist_ok=True)
    _place(os.path.join(STORLETS, scope), main, file, source.encode())
    return {"identity": _identity(os.path.join(PIPES, beside))}


def exchange(scope: str, beside: str) -> Reply:
    """Let two directories of pipes change places, in one step, and tell which one serves now."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = [os.fsencode(os.path.join(PIPES, name)) for name in (scope, beside)]
    if libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), paths[0])
    return {"serving": _identity(os.path.join(PIPES, scope))}


def discard(scope: str, beside: str, probes: str) -> Reply:
    """Remove what a switch needed, and tell what serves: its pipe, and whether anybody listens.

    :param probes: pattern of the names of all switches' storlets.
    :returns: also why some of these are ``left``: sandboxes may write there at any time.
    """
    _remove(os.path.join(PIPES, beside))
    left = _remove_probes(os.path.join(STORLETS, scope), probes)
    try:
        # Whoever is busy does.
        os.close(Channel(scope).tell(FACTORY, "PING"))
        return {"factory": _factory(scope), "listens": True, "left": left}
    except Unanswered:
        return {"factory": 0, "listens": False, "left": left}


def answers(pipes: str, patience: float = 0) -> Reply:
    """Tell whether a sandbox answers, once it has done what it was told before."""
    return {"answers": sandboxes.listens(pipes, patience=patience)}


def halt(pipes: str) -> Reply:
    """Let a sandbox end when all that it has been given is done, and wait for that."""
    try:
        return {"failure": Channel(pipes).ask(FACTORY, "HALT")}
    except Unanswered:
        return {"failure": ""}


def warm(pipes: str, daemons: list[Reply]) -> Reply:
    """Start storlets in a sandbox, anew where asked to, and tell which ones don't start.

    The sandbox is busy for up to a second more.
    """
    return {"failures": sandboxes.Starting(pipes, daemons).wait()}


def probe(pipes: str, main: str, daemon: Reply | None) -> Reply:
    """Run a storlet that copies, in a new sandbox, and tell what was wrong with that.

    :param daemon: how the sandbox is to start it; None when somebody else does.
    """
    channel = Channel(pipes)
    failure = warm(pipes, [daemon])["failures"].get(main, "") if daemon else ""
    if not failure and not sandboxes.listens(pipes, main, PATIENCE):
        failure = "no storlet runs"
    failure = failure or sandboxes.copy(channel, main)
    with contextlib.suppress(Unanswered, OSError):
        channel.ask(main, "HALT")
        os.unlink(main, dir_fd=channel.directory)
    return {"failure": failure, "factory": channel.inode(FACTORY)}


def _place(scope: str, main: str, file: str, source: bytes) -> None:
    """Write a storlet where sandboxes look for it; they may write there, too."""
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


def _remove_probes(scope: str, probes: str) -> str:
    """Remove storlets of switches as far as possible, and return why some are left."""
    try:
        names = [name for name in os.listdir(scope) if re.fullmatch(probes, name)]
        _remove(*(os.path.join(scope, name) for name in names[:MOST]), seconds=REMOVAL)
    except FileNotFoundError:
        return ""
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)[:MESSAGE]
    return ""


def _remove(*paths: str, seconds: float | None = None) -> None:
    # However deep a sandbox has made it, and without following its links.
    argv = ["rm", "-rf", "--", *paths]
    done = subprocess.run(argv, stderr=subprocess.PIPE, timeout=seconds, check=False)
    if done.returncode:
        raise OSError(done.stderr.decode(errors="replace")[:MESSAGE].strip())


def _factory(pipes: str) -> int:
    try:
        return Channel(pipes).inode(FACTORY)
    except Unanswered:
        return 0


def _identity(path: str) -> str:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


ACTIONS: dict[str, Callable[..., Reply]] = {
    action.__name__: action
    for action in (look, prepare, discard, exchange, answers, halt, warm, probe)
}


def main() -> None:
    """Answer until there is nothing more to answer."""
    sys.path.insert(0, os.path.join(NATIVE, "python"))
    with contextlib.suppress(ImportError):
        importlib.import_module("storlets.sbus.datagram")
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(_answered(json.loads(line)) + b"\n")
        sys.stdout.buffer.flush()


def _answered(request: Reply) -> bytes:
    """Do what is asked in a process of its own, which the kernel ends when it takes too long."""
    answer, answers = os.pipe()
    child = os.fork()
    if not child:
        signal.alarm(request.pop("seconds"))
        try:
            reply = ACTIONS[request.pop("do")](**request)
        except Exception as exc:
            reply = {"error": f"{type(exc).__name__}: {exc}"}
        os.write(answers, json.dumps(reply).encode())
        os._exit(0)
    os.close(answers)
    with os.fdopen(answer, "rb") as file:
        data = file.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return json.dumps({"error": "no answer in time", "late": True}).encode()
    return data


if __name__ == "__main__":
    main()
