# SPDX-License-Identifier: Apache-2.0
"""An image tried by hand: `docker run -i -t IMAGE debug /bin/bash`, as a sandbox is run.

The container has a sandbox's user, limits and capabilities, and no network; it has none of the
node's directories, and goes when its command or its user does.
"""

import contextlib
import dataclasses
import os
import secrets
import signal
import socket
import threading
from collections.abc import Iterator, Sequence

from container_stack import exceptions
from container_stack.host import abilities, containers, images
from container_stack.host import console as consoles
from container_stack.storlets import gateway as gateways
from container_stack.storlets.node import sandbox

#: The value tells the process that a container is for; see :func:`_process`.
LABEL = "container_stack.storlets.workbench.run"
SHELL = ("/bin/bash",)

_DEADLY = (signal.SIGTERM, signal.SIGHUP)


def run(
    engine: containers.Engine,
    gateway: gateways.Gateway,
    image: str,
    command: Sequence[str] = SHELL,
    *,
    user: str,
    console: consoles.Console,
) -> int:
    """Run a command in an image, on a terminal or on pipes, and return its exit code.

    The container goes whatever happens, and so do those of processes of this host that died
    without a chance to remove theirs. SIGTERM and SIGHUP end both it and this process.

    :param image: reference or ID; it is never fetched.
    :param user: as sandboxes have it: Swift's UID on the nodes.
    :raises NotFound: the image is missing.
    :raises InvalidRequest: the image has no such program.
    """
    sweep(engine)
    found = images.Images(engine).find(image)
    if found is None:
        raise exceptions.NotFound(f"There is no image {image}; build or load it first.")
    name = f"storlet-run-{secrets.token_hex(6)}"
    spec = dataclasses.replace(
        sandbox.spec(gateway, "run", found.id, user=user, name=name),
        entrypoint=command[:1],
        command=command[1:],
        mounts=(),
        labels={LABEL: _process(os.getpid())},
        tty=console.is_terminal,
        open_stdin=True,
    )
    with _ending_by_signals():
        try:
            return consoles.run(engine, engine.create(spec), console)
        finally:
            engine.remove(name)


def sweep(engine: containers.Engine) -> None:
    """Remove the containers of processes of this host that are no more."""
    host = f"{socket.gethostname()} "
    for each in engine.list({LABEL: None}):
        owner = each.labels[LABEL]
        pid = owner.split()[-2] if len(owner.split()) == 4 else ""
        if owner.startswith(host) and pid.isdigit() and _process(int(pid)) != owner:
            engine.remove(each.id)


def _process(pid: int) -> str:
    """Return what no other process has ever: host, boot, number, and start in ticks since then.

    Source: proc(5); the 22nd field of stat. A process that is gone never started.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            start = file.read().rpartition(")")[2].split()[19]
    except OSError:
        start = "never"
    return f"{socket.gethostname()} {abilities.boot_id()} {pid} {start}"


@contextlib.contextmanager
def _ending_by_signals() -> Iterator[None]:
    """Let deadly signals raise SystemExit in the body, so that it cleans up.

    Only Python's main thread can; elsewhere the next sweep has to do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, _end) for each in _DEADLY}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)
