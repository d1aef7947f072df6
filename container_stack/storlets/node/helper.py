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
from container_stack.host import containers, engine_talk
from container_stack.storlets import gateway
from container_stack.storlets.node import agent, agent_pipes, probe

LOG = logging.getLogger(__name__)

PREFIX = "container-stack-storlets"
LABEL = "container_stack.storlets.node.helper"
#: Seconds after which a helper ends that nobody ended.
LIFE = 1800
MEMORY, PIDS = 256 * 1024**2, 64
#: Instead of what tells a pipe from others: a sandbox didn't answer in time.
UNKNOWN = -1
#: Of the agent, in the order in which they need each other.
_MODULES = ("agent_pipes", "agent")
_LOADER = """
import sys, types
def load(name, text=""):
    made = sys.modules[name] = types.ModuleType(name)
    exec(text, made.__dict__)
    above, _, last = name.rpartition(".")
    if above:
        setattr(sys.modules.get(above) or load(above), last, made)
    return made
for name, text in {texts!r}.items():
    load("{package}." + name, text)
sys.modules["{package}.agent"].main()
"""


def beside(scope: str) -> str:
    """Return the name of an account's other directory of pipes; no account has such a name."""
    return f".{PREFIX}-{scope}"


class Helper:
    """The helper of one account on one node, for one switch.

    :ivar probe: main class of the storlet that a new sandbox is tried with.
    """

    def __init__(self, engine: containers.Engine, container: str, scope: str) -> None:
        self._engine = engine
        self._container = container
        self._program = program()
        self._names = {"scope": scope, "beside": beside(scope)}
        self.probe = probe.new_name()
        self._user = "0"
        self._talks = contextlib.ExitStack()
        self._talk: engine_talk.Conversation | None = None

    def close(self) -> None:
        """End what the helper does."""
        self._talk = None
        self._talks.close()

    @property
    def user(self) -> str:
        """UID that it acts as; root's, which can only look, until Swift's is known."""
        return self._user

    def act_as(self, user: str) -> None:
        """Act as another user from now on."""
        if user != self._user:
            self.close()
            self._user = user

    def look(self) -> dict[str, Any]:
        """Return which directory of pipes serves; see :func:`agent.look`."""
        return self.ask("look", 10, scope=self._names["scope"])

    def prepare(self) -> str:
        """Make the directory beside anew, with what the probe needs, and return its identity."""
        files = {"file": probe.file(self.probe), "source": probe.SOURCE.decode()}
        answer = self.ask("prepare", 60, main=self.probe, **files, **self._names)
        return str(answer["identity"])

    def exchange(self) -> str:
        """Let the account's directory of pipes and the one beside change places.

        :returns: the identity of the one that serves now.
        """
        try:
            return str(self.ask("exchange", 10, **self._names)["serving"])
        except exceptions.CommandFailed as exc:
            LOG.warning("Directories can't be exchanged: %(why)s", {"why": exc})
            return str(self.look()["serving"])

    def discard(self) -> int:
        """Remove the directory beside and what probes needed, also those of killed switches.

        :returns: what tells the pipe that serves from others; 0 when nobody listens there.
        """
        try:
            found = self.ask("discard", 30, probes=probe.NAMES, **self._names)
        except exceptions.CommandFailed as exc:
            # Most likely a sandbox that serves is busy.
            LOG.warning("Directories can't be removed: %(why)s", {"why": exc})
            return UNKNOWN
        if found["left"]:
            LOG.warning("Probes stay until the next switch: %(why)s", {"why": found["left"]})
        return int(found["factory"]) if found["listens"] else 0

    def has_begun_all(self, pipes: str) -> bool:
        """Return whether a sandbox has begun all that it was told; a dead one has."""
        try:
            self.ask("answers", 1, pipes=pipes)
        except exceptions.CommandFailed as exc:
            if exc.timed_out:
                return False
            raise
        return True

    def ask(self, do: str, seconds: float, **request: Any) -> dict[str, Any]:
        """Have something done and return the answer.

        :param seconds: whole ones, after which it is ended.
        :raises CommandFailed: it failed, or took longer (``timed_out``).
        """
        if self._talk is None:
            argv = ["python3", "-IBc", self._program]
            self._talk = self._talks.enter_context(
                self._engine.talk(self._container, argv, user=self._user)
            )
        order = json.dumps({"do": do, "seconds": int(seconds), **request}).encode()
        try:
            answer: dict[str, Any] = json.loads(self._talk.ask(order, seconds + 30))
        except exceptions.ContainerStackError:
            # Whatever it still says would answer another question.
            self.close()
            raise
        LOG.debug("Helper did %(do)s: %(answer)s", {"do": do, "answer": answer})
        if "error" in answer:
            raise exceptions.CommandFailed(
                do, 1, str(answer["error"]), timed_out=answer.get("late", False)
            )
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
    helper = Helper(engine, container, scope)
    try:
        yield helper
    finally:
        helper.close()
        # A failure here would hide the one before; the next helper removes this one.
        with contextlib.suppress(exceptions.ContainerStackError):
            engine.remove(container)


def program() -> str:
    """Return the agent as one text, whose Python has nothing of ours."""
    files = importlib.resources.files(__package__)
    texts = {name: files.joinpath(f"{name}.py").read_text() for name in _MODULES}
    return _LOADER.format(package=__package__, texts=texts)


def spec(gateway_: gateway.Gateway, base: str, scope: str) -> containers.ContainerSpec:
    """Return the container of an account's helper."""
    return containers.ContainerSpec(
        name=f"{PREFIX}-{scope}-helper",
        image=base,
        entrypoint=["python3"],
        command=["-c", f"import time; time.sleep({LIFE})"],
        labels={LABEL: scope},
        mounts=[
            containers.Mount(gateway_.pipes, agent_pipes.PIPES),
            containers.Mount(gateway_.storlets, agent.STORLETS),
            containers.Mount(gateway.NATIVE, agent.NATIVE, read_only=True),
        ],
        read_only_root=True,
        limits=containers.Limits(memory=MEMORY, pids=PIDS),
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
