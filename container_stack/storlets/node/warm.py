# SPDX-License-Identifier: Apache-2.0
"""Starting in a new sandbox what runs in the old one, so that no request finds it missing."""

import contextlib
import logging
from collections.abc import Mapping, Sequence

from container_stack import exceptions
from container_stack.host import containers
from container_stack.storlets.node import daemons
from container_stack.storlets.node import helper as helpers
from container_stack.storlets.node.place import Place

LOG = logging.getLogger(__name__)

#: Seconds that each storlet may take to start.
START = 15
#: How often is looked for what was started meanwhile.
ROUNDS = 5

Warm = Mapping[str, daemons.Daemon]


def copy(
    place: Place,
    helper: helpers.Helper,
    old: Sequence[containers.Container],
    warm: Warm,
    *,
    strict: bool,
    rounds: int = ROUNDS,
) -> Warm:
    """Start beside what runs in the old sandbox, and return that.

    :param warm: what was started before.
    :param strict: all of it must start.
    :raises ProbeFailed: something doesn't.
    """
    for _round in range(rounds):
        now = running(place, old)
        if now == warm:
            break
        failures = _start(helper, place.beside, warm, now)
        if failures and strict:
            name, why = next(iter(failures.items()))
            raise exceptions.ProbeFailed(
                f"Storlet {name}, which runs now, doesn't start in the new sandbox: {why}."
            )
        warm = now
    return warm


def copy_late(
    place: Place, helper: helpers.Helper, old: Sequence[containers.Container], warm: Warm
) -> None:
    """Start what the gateway was about to start in the old sandbox when the exchange came.

    It takes a second there until the gateway goes on, and then by the new sandbox's pipe.
    """
    for _round in range(ROUNDS if old else 0):
        begun = helper.has_begun_all(place.beside)
        now = running(place, old)
        try:
            _start(helper, place.scope, warm, now)
        except exceptions.CommandFailed as exc:
            LOG.warning("Storlets can't be started in advance: %(why)s", {"why": exc})
        warm = now
        if begun:
            break


def running(place: Place, sandboxes: Sequence[containers.Container]) -> Warm:
    """Return the storlets that run in any of these sandboxes, by name."""
    found: dict[str, daemons.Daemon] = {}
    for each in sandboxes:
        with contextlib.suppress(exceptions.NotFound, exceptions.Busy):
            found.update(daemons.running(place.engine, each.id))
    return found


def _start(helper: helpers.Helper, pipes: str, warm: Warm, wanted: Warm) -> Mapping[str, str]:
    """Start storlets, anew those that were started anew there, and return which ones don't."""
    # One that is gone was ended because its storlet has changed: the copy is old, too.
    gone = [each for name, each in warm.items() if name not in wanted]
    changed = [each for name, each in wanted.items() if warm.get(name) != each] + gone
    if not changed:
        return {}
    orders = [{**each.order(), "again": each.name in warm} for each in changed]
    answer = helper.ask("warm", START * (len(orders) + 1), pipes=pipes, daemons=orders)
    failures: Mapping[str, str] = answer["failures"]
    for name, why in failures.items():
        LOG.warning(
            "Storlet %(name)s doesn't start in the new sandbox: %(why)s",
            {"name": name, "why": why},
        )
    return failures
