# SPDX-License-Identifier: Apache-2.0
"""Moves of servers, by name, in a process that is killed after one of their steps."""

from collections.abc import Callable, Mapping
from pathlib import Path

from container_stack.host import containers
from container_stack.servers import assembly, model

from . import mortal

#: The engine's calls that move something. A container's own start is tried where its life is.
CHANGES = ("commit", "create", "put_archive", "remove", "rename", "start", "stop")

Action = Callable[[assembly.Service, model.Plan, str], None]


def resize(service: assembly.Service, plan: model.Plan, _image_id: str) -> None:
    service.moves.park(plan)
    service.moves.finish(plan)


def confirm(service: assembly.Service, plan: model.Plan, _image_id: str) -> None:
    service.moves.confirm(plan.id)


def resize_and_revert(service: assembly.Service, plan: model.Plan, image_id: str) -> None:
    resize(service, plan, image_id)
    service.servers.destroy(plan.id)
    service.moves.revert(plan)


def rebuild(service: assembly.Service, plan: model.Plan, image_id: str) -> None:
    service.moves.rebuild(plan, plan, image_id)


def rescue(service: assembly.Service, plan: model.Plan, image_id: str) -> None:
    service.rescues.rescue(plan, image_id)


def unrescue(service: assembly.Service, plan: model.Plan, _image_id: str) -> None:
    service.rescues.unrescue(plan)


ACTIONS: Mapping[str, Action] = {
    each.__name__: each for each in (resize_and_revert, confirm, rebuild, rescue, unrescue)
}


def service(settings: assembly.Settings, fate: mortal.Fate) -> assembly.Service:
    """Return a service that counts the steps of moves, each when it is done."""
    engine = containers.Engine(settings.docker_url)
    fate.bind(engine, *CHANGES)
    run = mortal.RootExecutor(state_dir=settings.state_dir)
    made = assembly.assemble(settings, engine, run)
    fate.bind(made.servers.life.records, "write", "remove")
    return made


def act(
    settings: assembly.Settings, name: str, plan: model.Plan, image_id: str, last: int, done: str
) -> None:
    """Do something to a server in this process, and be killed after a step.

    :param done: file that gets the number of steps, if they are all done.
    """
    fate = mortal.Fate(last, mortal.kill)
    ACTIONS[name](service(settings, fate), plan, image_id)
    Path(done).write_text(str(fate.steps), encoding="ascii")


def receive(
    settings: assembly.Settings, plan: model.Plan, parcel: str, last: int, done: str
) -> None:
    """Receive a server in this process, from a file, and be killed after a step."""
    fate = mortal.Fate(last, mortal.kill)
    with Path(parcel).open("rb") as file:
        pieces = iter(lambda: file.read(100_000), b"")
        service(settings, fate).moves.receive(plan, pieces)
    Path(done).write_text(str(fate.steps), encoding="ascii")
