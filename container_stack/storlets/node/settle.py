# SPDX-License-Identifier: Apache-2.0
"""What comes after an exchange of directories, be it at once or after a crash."""

import contextlib
import logging
from collections.abc import Iterable, Sequence

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets.node import helper as helpers
from container_stack.storlets.node.place import Place

LOG = logging.getLogger(__name__)

#: Labels of sandboxes that were started here: their directory, and what they are to be called.
DIRECTORY, TITLE = "container_stack.storlets.pipes", "container_stack.storlets.name"
#: Instead of what tells a pipe from others.
UNKNOWN = helpers.UNKNOWN
#: Seconds for a sandbox to go that has done its work.
EXIT = 10


def recover(place: Place, helper: helpers.Helper) -> None:
    """Bring to an end what a killed switch left: forward where it served already, else back."""
    found = helper.look()
    helper.act_as(place.user or found["owner"])
    sandboxes = place.sandboxes()
    for each in [each for each in sandboxes if each.name == place.next]:
        serves = each.labels.get(DIRECTORY) == found["serving"] and each.state == "running"
        if serves and not _is_superseded(place, each, sandboxes):
            finish(place, helper, each.id, each.labels.get(TITLE, ""))
            return
        place.engine.remove(each.id)
        sandboxes.remove(each)
    drain(place, helper, [each for each in sandboxes if each.name.startswith(place.ours)])
    clean(place, helper)


def finish(place: Place, helper: helpers.Helper, new: str, name: str) -> int:
    """Name the sandbox that serves as the gateway expects it, and end the others.

    :returns: what tells the pipe that serves from others; 0 when nobody listens there.
    """
    if any(each.id == new for each in place.sandboxes()):
        _rename(place, new, name)
        drain(place, helper, [each for each in place.sandboxes() if each.id != new])
    return clean(place, helper)


def drain(
    place: Place,
    helper: helpers.Helper,
    sandboxes: Sequence[containers.Container],
    pipes: str | None = None,
) -> None:
    """Let sandboxes finish what they have been given, and end them.

    :param pipes: the directory where one of them answers; None is the one beside.
    """
    if any(each.state == "running" for each in sandboxes):
        # Told by its pipe, a sandbox answers first what came before; a signal overtakes that.
        try:
            helper.ask("halt", max(1, place.grace), pipes=pipes or place.beside)
        except exceptions.CommandFailed as exc:
            LOG.warning(
                "Requests of %(scope)s that run in a replaced sandbox are cut off: %(why)s",
                {"scope": place.scope, "why": exc},
            )
    end(place, [each.id for each in sandboxes], EXIT)


def end(place: Place, sandboxes: Iterable[str], seconds: float) -> None:
    """End containers, after some time by force; fine if they are gone."""
    for each in sandboxes:
        with contextlib.suppress(exceptions.NotFound):
            place.engine.stop(each, timeout=max(1, int(seconds)))
        place.engine.remove(each)


def clean(place: Place, helper: helpers.Helper) -> int:
    """Remove directories that nobody needs, and sandboxes that no request reaches.

    :returns: what tells the pipe that serves from others; 0 when nobody listens there.
    """
    factory = helper.discard()
    sandboxes = [] if factory else place.sandboxes()
    if sandboxes:
        # The gateway would find its name taken.
        LOG.warning("The sandbox of %(scope)s doesn't answer and is ended", {"scope": place.scope})
        end(place, [each.id for each in sandboxes], 1)
    return factory


def _is_superseded(
    place: Place, new: containers.Container, sandboxes: Sequence[containers.Container]
) -> bool:
    """Return whether the gateway has started a sandbox since, as it does when none answers."""
    with contextlib.suppress(exceptions.NotFound):
        mine = place.engine.inspect(new.id).started_at
        for each in sandboxes:
            if each.name == new.labels.get(TITLE):
                theirs = place.engine.inspect(each.id).started_at
                return bool(mine and theirs and theirs > mine)
    return False


def _rename(place: Place, new: str, name: str) -> None:
    for _round in range(3):
        found = [each for each in place.sandboxes() if each.name == name]
        if any(each.id == new for each in found):
            return
        for each in found:
            with contextlib.suppress(exceptions.NotFound):
                place.engine.rename(each.id, place.old(each))
        # The gateway may have started one in between.
        with contextlib.suppress(exceptions.AlreadyExists):
            place.engine.rename(new, name)
            return
    raise exceptions.Busy(f"The name {name} is taken again and again; try again.")
