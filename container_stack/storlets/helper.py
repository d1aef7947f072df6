# SPDX-License-Identifier: Apache-2.0
"""A short-lived container of the operator's base image that works on a node's directories.

So nothing but the node's engine is needed there, and nothing of a tenant's image is trusted. It
has no network and no capability, acts as Swift's user, and ends by itself when who started it
doesn't come back.
"""

import contextlib
import importlib.resources
import json
import logging
import secrets
from collections.abc import Iterator
from typing import Any

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets import agent, gateway

LOG = logging.getLogger(__name__)

PREFIX = "container-stack-storlets"
LABEL = "container_stack.storlets.helper"
#: Seconds after which a helper ends that nobody ended.
LIFE = 1800
MEMORY, PIDS = 256 * 1024**2, 64
#: Exit code of what the kernel's alarm ended.
_ALARM = 142


def beside(scope: str) -> str:
    """Return the name of an account's other directory of pipes; no account has such a name."""
    return f".{PREFIX}-{scope}"


class Helper:
    """The helper of one account on one node."""

    def __init__(self, engine: containers.Engine, container: str, scope: str) -> None:
        self._engine = engine
        self._container = container
        self._program = importlib.resources.files(__package__).joinpath("agent.py").read_text()
        self._names = {"scope": scope, "beside": beside(scope)}
        #: UID that it acts as; root, which can only look, until Swift's is known.
        self.user = "0"

    def look(self) -> dict[str, Any]:
        """Return which directories are where, and whose they are; see :func:`agent.look`."""
        return self.ask("look", 10, **self._names)

    def prepare(self) -> str:
        """Make the directory beside anew and return its identity."""
        return str(self.ask("prepare", 60, **self._names)["identity"])

    def exchange(self) -> None:
        """Let the account's directory of pipes and the one beside change places."""
        self.ask("exchange", 10, **self._names)

    def discard(self, main: str) -> None:
        """Remove the directory beside, and that of a storlet."""
        self.ask("discard", 60, main=main, **self._names)

    def listens(self, pipes: str) -> bool:
        """Return whether somebody listens at a factory's pipe; who is busy does."""
        try:
            return bool(self.ask("listens", 3, pipes=pipes)["listens"])
        except exceptions.CommandFailed as exc:
            if exc.timed_out:
                return True
            raise

    def ask(self, do: str, seconds: float, **request: Any) -> dict[str, Any]:
        """Have something done and return the answer.

        :param seconds: whole ones, after which it is ended.
        :raises CommandFailed: it failed, or took longer (``timed_out``).
        """
        order = json.dumps({"do": do, "seconds": int(seconds), **request}).encode()
        argv = ["python3", "-IBc", self._program]
        result = self._engine.exec(
            self._container, argv, stdin=order, timeout=seconds + 30, user=self.user
        )
        LOG.debug("Helper did %(do)s: %(code)s", {"do": do, "code": result.exit_code})
        said = result.stderr.decode(errors="replace")
        if result.exit_code:
            timed_out = result.exit_code == _ALARM
            raise exceptions.CommandFailed(do, result.exit_code, said, timed_out=timed_out)
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


@contextlib.contextmanager
def started(
    engine: containers.Engine, gateway_: gateway.Gateway, base: str, scope: str
) -> Iterator[Helper]:
    """Lend a helper, and remove it again.

    :param base: ID of the operator's base image.
    :raises HostNotReady: the node lacks the image or one of the directories.
    """
    made = spec(gateway_, base, scope)
    engine.remove(made.name)
    try:
        container = engine.run(made)
    except (exceptions.NotFound, exceptions.InvalidRequest) as exc:
        raise exceptions.HostNotReady(f"No storlets can run there: {exc}") from exc
    try:
        yield Helper(engine, container, scope)
    finally:
        # A failure here would hide the one before; the next helper removes this one.
        with contextlib.suppress(exceptions.ContainerStackError):
            engine.remove(container)


@contextlib.contextmanager
def tolerated() -> Iterator[None]:
    """Go on although a step of the helper's fails; the log tells."""
    try:
        yield
    except exceptions.CommandFailed as exc:
        LOG.warning("A step of changing an image failed: %(why)s", {"why": exc})


def spec(gateway_: gateway.Gateway, base: str, scope: str) -> containers.ContainerSpec:
    """Return the container of an account's helper."""
    return containers.ContainerSpec(
        name=f"{PREFIX}-{scope}-helper",
        image=base,
        entrypoint=["python3"],
        command=["-c", f"import time; time.sleep({LIFE})"],
        labels={LABEL: scope},
        mounts=[
            containers.Mount(gateway_.pipes, agent.PIPES),
            containers.Mount(gateway_.storlets, agent.STORLETS),
            containers.Mount(gateway.NATIVE, agent.NATIVE, read_only=True),
        ],
        read_only_root=True,
        memory=MEMORY,
        pids=PIDS,
        user="0",
        auto_remove=True,
    )


def check_spec(gateway_: gateway.Gateway, base: str) -> containers.ContainerSpec:
    """Return a container that can only be made where all is there that sandboxes need."""
    needed = (
        *(gateway_.pipes, gateway_.storlets, f"{gateway.NATIVE}/libsbus.so"),
        *(f"{gateway.NATIVE}/python/storlets", "/dev/log"),
    )
    return containers.ContainerSpec(
        name=f"{PREFIX}-check-{secrets.token_hex(4)}",
        image=base,
        command=["true"],
        labels={LABEL: ""},
        mounts=[containers.Mount(path, f"/needed{path}", read_only=True) for path in needed],
    )
