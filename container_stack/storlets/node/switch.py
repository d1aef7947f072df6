# SPDX-License-Identifier: Apache-2.0
"""Changing the image that an account's requests run in, on one node, with no request failing.

The gateway finds a sandbox by the account's directory of pipes alone. So a new sandbox is started
on a directory beside, probed, and given all storlets that run in the old one. Then the two
directories change places in one step of the kernel's. A bind mount follows its directory: what
the old sandbox has been given it finishes, and what comes next the new one gets.

Meanwhile the gateway may start sandboxes of its own: when none answers it runs what the account's
tag names at that time. The tag is set before the exchange, so that this is the new image, and
whose pipe serves is looked at afterwards.

A switch can be killed anywhere. A sandbox of ours carries the identity of its directory as a
label; whether that directory is the one that serves tells on which side of the exchange it was.
"""

import contextlib
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets.node import daemons, sandbox, settle, warm
from container_stack.storlets.node import helper as helpers
from container_stack.storlets.node.place import Place, Target

LOG = logging.getLogger(__name__)

#: Seconds that a probe may take once the sandbox answers.
PROBE = 60
#: Seconds until a sandbox that was just started has its pipe.
TAKEOVER = 1.0
#: How often a sandbox that the gateway started meanwhile is replaced in turn.
ATTEMPTS = 3


def run(place: Place, target: Target) -> None:
    """Let requests run in another image.

    :raises ProbeFailed: they wouldn't; nothing has changed.
    :raises Busy: the gateway restarts the sandbox again and again, in another image.
    """
    for _attempt in range(ATTEMPTS):
        with _helped(place) as helper:
            sandboxes = place.sandboxes()
            user = _user(place, sandboxes)
            if user and not any(each.name.startswith(place.ours) for each in sandboxes):
                helper.act_as(user)
            else:
                settle.recover(place, helper)
            if _change(place, target, helper):
                return
    raise exceptions.Busy("The gateway restarts the sandbox again and again; try again.")


def _change(place: Place, target: Target, helper: helpers.Helper) -> bool:
    """Change once, and return whether requests run in the target now."""
    old = [each for each in place.sandboxes() if each.state == "running"]
    with contextlib.ExitStack() as undo:
        undo.callback(_quietly, helper.discard)
        identity = helper.prepare()
        new = _started(place, target, identity, helper.user)
        undo.callback(_quietly, place.engine.remove, new)
        factory, warmed = _tried(place, target, helper, new, old)
        undo.callback(_quietly, target.retag())
        _exchange(helper, identity, undo)
        undo.pop_all()
    LOG.info(
        "Storlets of %(scope)s run in %(image)s", {"scope": place.scope, "image": target.image_id}
    )
    warm.copy_late(place, helper, old, warmed)
    known = {new, *(each.id for each in old)}
    strangers = [each for each in place.sandboxes() if each.id not in known]
    if strangers and _gateway_serves(helper, factory):
        settle.end(place, [new], place.grace)
        settle.clean(place, helper)
        wanted = (target.name, target.image_id)
        return any((each.name, each.image_id) == wanted for each in strangers)
    return settle.finish(place, helper, new, target.name) in (factory, settle.UNKNOWN)


def sweep(place: Place) -> None:
    """Bring to an end what a killed switch left, whichever way is the shorter one.

    Directories that it left the next one removes, and so nothing is done for them alone.
    """
    begun = any(each.name.startswith(place.ours) for each in place.sandboxes())
    if not begun and not place.engine.list({helpers.LABEL: place.scope}):
        return
    with _helped(place) as helper:
        settle.recover(place, helper)


def halt(place: Place) -> None:
    """Let the account's sandboxes finish what they have been given, and end them."""
    with _helped(place) as helper:
        settle.recover(place, helper)
        settle.drain(place, helper, place.sandboxes(), place.scope)


@contextlib.contextmanager
def _helped(place: Place) -> Iterator[helpers.Helper]:
    with helpers.started(place.engine, place.gateway, place.base, place.scope) as helper:
        yield helper


def _user(place: Place, sandboxes: Sequence[containers.Container]) -> str | None:
    """Return whom the gateway itself runs the account's sandbox as."""
    for each in sandboxes:
        with contextlib.suppress(exceptions.NotFound):
            return place.engine.inspect(each.id).user or None
    return None


def _started(place: Place, target: Target, identity: str, user: str) -> str:
    """Start the new sandbox beside and return its id."""
    spec = sandbox.spec(
        place.gateway,
        place.scope,
        target.image_id,
        user=user,
        name=target.name,
        pipes=f"{place.gateway.pipes}/{place.beside}",
    )
    labels = {**spec.labels, settle.DIRECTORY: identity, settle.TITLE: target.name}
    try:
        return place.engine.run(dataclasses.replace(spec, name=place.next, labels=labels))
    except (exceptions.EngineUnavailable, exceptions.NoSpace):
        raise
    except exceptions.ContainerStackError as exc:
        raise exceptions.ProbeFailed(f"No sandbox starts from {target.image_id}: {exc}") from exc


def _tried(
    place: Place,
    target: Target,
    helper: helpers.Helper,
    new: str,
    old: Sequence[containers.Container],
) -> tuple[int, warm.Warm]:
    """Have a storlet run in the new sandbox, and start what runs in the old one.

    :returns: what tells the sandbox's pipe from others, and what was started.
    """
    probing = daemons.of_probe(helper.probe)
    with contextlib.ExitStack() as stack:
        running = warm.running(place, old)
        if running:
            # Its own way of starting storlets takes a second each, and the others show it works.
            stack.enter_context(_probe_started(place, new, probing))
        try:
            _await_answer(place, helper, new)
            warmed = warm.copy(place, helper, old, {}, strict=target.strict, rounds=1)
            order = None if running else {**probing.order(), "again": False}
            answer = helper.ask("probe", PROBE, pipes=place.beside, main=probing.name, daemon=order)
            if answer["failure"]:
                raise exceptions.ProbeFailed(f"The new sandbox can't be used: {answer['failure']}.")
            warmed = warm.copy(place, helper, old, warmed, strict=target.strict)
            return int(answer["factory"]), warmed
        except exceptions.CommandFailed as exc:
            why = "it doesn't answer" if exc.timed_out else exc.stderr
            raise exceptions.ProbeFailed(f"The new sandbox can't be used: {why}.") from exc


@contextlib.contextmanager
def _probe_started(place: Place, new: str, daemon: daemons.Daemon) -> Iterator[None]:
    """Run the probe's daemon in the new sandbox."""
    argv = [
        *("/usr/bin/python3", "-m", "storlets.agent.daemon", daemon.name),
        *(f"{sandbox.CHANNELS}/{daemon.name}", daemon.level, str(daemon.pool), "probe"),
    ]
    path = {"PYTHONPATH": f"{sandbox.PYTHONPATH}:{sandbox.STORLETS}/{daemon.name}"}

    def run() -> None:
        # If it doesn't run, the probe says so.
        with contextlib.suppress(exceptions.ContainerStackError):
            place.engine.exec(new, argv, environment=path, timeout=PROBE)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    # It ends when the probe is done, or with the sandbox.


def _await_answer(place: Place, helper: helpers.Helper, new: str) -> None:
    deadline = time.monotonic() + place.gateway.start_timeout
    while not helper.ask("answers", PROBE, pipes=place.beside, patience=1)["answers"]:
        _check_alive(place, new)
        if time.monotonic() > deadline:
            raise exceptions.ProbeFailed(
                f"The new sandbox didn't answer in {place.gateway.start_timeout:g} seconds."
            )


def _check_alive(place: Place, container: str) -> None:
    with contextlib.suppress(exceptions.NotFound):
        if place.engine.inspect(container).state == "running":
            return
    raise exceptions.ProbeFailed("The new sandbox ended at once.")


def _gateway_serves(helper: helpers.Helper, factory: int) -> bool:
    """Return whether a sandbox that the gateway started has taken the new one's pipe over."""
    # It does so as soon as its Python has started.
    time.sleep(TAKEOVER)
    return int(helper.look()["factory"]) != factory


def _exchange(helper: helpers.Helper, identity: str, undo: contextlib.ExitStack) -> None:
    """Exchange the directories.

    :param undo: is emptied when nobody can tell whether it was done: :func:`sweep` finds out, and
        undoing could take away what serves.
    """
    try:
        if helper.exchange() == identity:
            return
    except BaseException:
        undo.pop_all()
        raise
    raise exceptions.HostNotReady(
        "The node can't exchange two directories in one step; its pipes need another file system."
    )


def _quietly(undo: Callable[..., object], *args: object) -> None:
    """Undo something; what goes wrong there would hide what went wrong before."""
    try:
        undo(*args)
    except exceptions.ContainerStackError as exc:
        LOG.warning("Undoing failed, and the next sweep will do it: %(why)s", {"why": exc})
