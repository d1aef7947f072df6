# SPDX-License-Identifier: Apache-2.0
"""Servers that are resized, or move to another host, or are built anew.

A resize makes a new container of what the old one has written; the old one stands aside until the
resize is confirmed, or comes back as it was. Nothing that a crash leaves is lost: at each moment
one of the two is whole.
"""

import contextlib
import dataclasses
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence

from container_stack import exceptions
from container_stack.host import containers, images, locks
from container_stack.servers import lives, model, service
from container_stack.servers.moving import aside, parcels, states, volumes

LOG = logging.getLogger(__name__)

#: Bytes that the list of a parcel's parts may take.
_LONGEST_LIST = 64 * 1024
_IMAGE = re.compile("sha256:[0-9a-f]{64}")

Role = model.Role


class Moves:
    """Moves the servers of one owner; every method is idempotent.

    :param object_locks: those of :class:`service.Servers`.
    """

    def __init__(
        self,
        life: lives.Lives,
        engine_images: images.Images,
        server_states: states.States,
        object_locks: locks.ObjectLocks,
    ) -> None:
        self._life = life
        self._engine = life.engine
        self._images = engine_images
        self._locks = object_locks
        self._aside = aside.Aside(life)
        self._states = server_states

    def park(self, plan: model.Plan, *, timeout: int = 0) -> None:
        """Stop a server, keep what it has written, and let its container stand aside.

        Its ports and disks are free then for its new container, here or on another host. If a
        step fails, the server is as it was, and runs if it ran.

        :param plan: the server as it is now.
        :param timeout: seconds that it gets to end by itself.
        :raises ServerNotFound: there is none.
        :raises Busy: another resize of it was neither confirmed nor reverted.
        :raises NotSupported: it was resized too often.
        """
        with self._hold(plan.id):
            main, parked = self._life.find(plan.id), self._aside.find(plan.id, Role.RESIZED)
            if parked is not None and main is None:
                return
            if parked is not None:
                raise exceptions.Busy(
                    f"Server {plan.id} was resized already; confirm or revert that first."
                )
            main = self._life.get(plan.id)
            runs = self._life.state(main) is not model.State.STOPPED
            with contextlib.ExitStack() as undo:
                undo.callback(self._aside.undoing(plan, Role.RESIZED, runs=runs))
                self._life.stop(main, timeout)
                undo.callback(self._states.tidy, plan.id)
                self._states.make(plan.id, main)
                self._aside.put(main, plan.id, Role.RESIZED)
                self._life.disks.disconnect(plan.id)
                undo.pop_all()
        LOG.info("Server %(id)s stands aside", {"id": plan.id})

    def is_parked(self, server_id: str) -> bool:
        """Return whether a container of the server stands aside for a resize on this host."""
        return self._aside.find(server_id, Role.RESIZED) is not None

    def is_unfinished(self, server_id: str) -> bool:
        """Return whether nothing but such a container is left of the server, as after a crash."""
        return self.is_parked(server_id) and self._life.find(server_id) is None

    def finish(
        self, plan: model.Plan, *, power_on: bool = True, plugging: lives.Plugging | None = None
    ) -> None:
        """Make the server anew, as the plan wants it, of what stands aside on this host.

        :raises ServerNotFound: nothing does.
        """
        with self._hold(plan.id):
            parked = self._parked(plan.id)
            if self._is_done(plan.id):
                return
            image = self._states.keep(plan.id, parked)
            places = self._places(parked)
            with self._aside.made(
                plan, image.id, volumes.empty(places), power_on=power_on, plugging=plugging
            ) as container_id:
                for place in places:
                    archive = volumes.read(self._engine, parked.id, place.target)
                    volumes.fill(self._engine, container_id, place, archive)
        LOG.info("Resized server %(id)s", {"id": plan.id})

    def revert(
        self, plan: model.Plan, *, power_on: bool = True, plugging: lives.Plugging | None = None
    ) -> None:
        """Let the server be what it was before it was parked.

        What its new container has written is gone. A server that was never parked only starts.

        :raises ServerNotFound: there is none.
        """
        with self._hold(plan.id):
            self._aside.take_back(plan.id, Role.RESIZED)
            self._aside.refresh(plan)
            self._states.tidy(plan.id)
            if power_on:
                self._aside.run(plan, plugging)
        LOG.info("Server %(id)s is what it was before its resize", {"id": plan.id})

    def confirm(self, server_id: str) -> None:
        """Remove what stands aside for a resize, and with it what nothing else needs."""
        with self._hold(server_id):
            parked = self._aside.find(server_id, Role.RESIZED)
            if parked is not None:
                self._engine.remove(parked.id)
            if self._life.find(server_id) is None:
                self._life.remove(server_id)
            self._life.ephemerals.prune(server_id)
            self._states.tidy(server_id)

    @contextlib.contextmanager
    def sending(self, server_id: str) -> Iterator[Iterator[bytes]]:
        """Lend what stands aside, as a parcel for :meth:`receive` on another host.

        It is read while it is sent, and fills neither memory nor disk.

        :raises ServerNotFound: nothing stands aside.
        """
        with self._hold(server_id):
            parked = self._parked(server_id)
            image = self._states.keep(server_id, parked)
            places = self._places(parked)
            listed = {"image": image.id, "volumes": [dataclasses.asdict(each) for each in places]}
            contents = (volumes.read(self._engine, parked.id, each.target) for each in places)
            manifest = [json.dumps(listed).encode()]
            yield parcels.pack([manifest, self._images.save([image.id]), *contents])

    def receive(
        self,
        plan: model.Plan,
        parcel: Iterable[bytes],
        *,
        power_on: bool = True,
        plugging: lives.Plugging | None = None,
    ) -> None:
        """Make a server of what another host sent; if a step fails, nothing remains.

        :raises InvalidRequest: it isn't what :meth:`sending` lends.
        :raises Busy: the server is on this host already, standing aside.
        """
        with self._hold(plan.id), contextlib.ExitStack() as undo:
            if self._is_done(plan.id):
                return
            if self.is_parked(plan.id):
                raise exceptions.Busy(f"Server {plan.id} stands aside here; finish that.")
            undo.callback(self._forget, plan.id)
            opened = parcels.Parcel(parcel)
            image_id, places = _listed(opened)
            image = self._load(plan.id, opened, image_id)
            with self._aside.made(
                plan, image.id, volumes.empty(places), power_on=power_on, plugging=plugging
            ) as container_id:
                for place in places:
                    self._fill(container_id, place, opened)
                opened.end()
            undo.pop_all()
        LOG.info("Received server %(id)s", {"id": plan.id})

    def rebuild(
        self,
        before: model.Plan,
        plan: model.Plan,
        image_id: str,
        *,
        power_on: bool = True,
        timeout: int = 0,
        plugging: lives.Plugging | None = None,
    ) -> None:
        """Make a server anew of an image; its ports and disks stay what they are.

        If that fails, the server is what it was, and runs if it ran.

        :param before: the server as it is now.
        :param plan: as it is to be.
        :raises ServerNotFound: there is none.
        """
        with self._hold(plan.id):
            if self._aside.find(plan.id, Role.REPLACED) and not self._is_done(plan.id):
                self._aside.take_back(plan.id, Role.REPLACED)
            main = self._life.get(plan.id)
            runs = self._life.state(main) is not model.State.STOPPED
            with contextlib.ExitStack() as undo:
                undo.callback(self._aside.undoing(before, Role.REPLACED, runs=runs))
                self._life.stop(main, timeout)
                self._discard(plan.id)
                self._aside.put(main, plan.id, Role.REPLACED)
                with self._aside.made(plan, image_id, (), power_on=power_on, plugging=plugging):
                    pass
                undo.pop_all()
            self._discard(plan.id)
            self._life.ephemerals.prune(plan.id)
            self._states.tidy(plan.id)
        LOG.info("Rebuilt server %(id)s", {"id": plan.id})

    def tidy(self, server_id: str) -> None:
        """Remove what a server that was destroyed here has kept; idempotent."""
        with self._hold(server_id):
            self._states.tidy(server_id)

    def _is_done(self, server_id: str) -> bool:
        """Return whether the server has its container; remove what a crash left half made."""
        if self._aside.half_made(server_id):
            self._aside.unmake(server_id)
        return self._life.find(server_id) is not None

    def _hold(self, server_id: str) -> contextlib.AbstractContextManager[None]:
        return self._locks.hold(service.lock_name(server_id))

    def _parked(self, server_id: str) -> containers.Container:
        found = self._aside.find(server_id, Role.RESIZED)
        if found is None:
            raise model.ServerNotFound(f"Nothing of server {server_id} stands aside on this host.")
        return found

    def _places(self, parked: containers.Container) -> Sequence[volumes.Place]:
        """Return what goes with a server beside its root, mounted on this host to be read."""
        self._life.ephemerals.mount(parked)
        return volumes.places(self._engine, parked)

    def _discard(self, server_id: str) -> None:
        found = self._aside.find(server_id, Role.REPLACED)
        if found is not None:
            self._engine.remove(found.id)

    def _forget(self, server_id: str) -> None:
        try:
            self._life.remove(server_id)
            self._states.tidy(server_id)
        except exceptions.ContainerStackError as exc:
            LOG.warning("Server %(id)s isn't undone yet: %(why)s", {"id": server_id, "why": exc})

    def _load(self, server_id: str, parcel: parcels.Parcel, image_id: str) -> images.Image:
        """Take the state out of a parcel; the engine computes its id of what is in it."""
        part = parcel.part()
        loaded = self._images.load(part)
        for _rest in part:
            pass
        for each in loaded:
            if each.id != image_id:
                self._images.remove(each.id)
        if [each.id for each in loaded] != [image_id]:
            raise exceptions.InvalidRequest(f"The other host's parcel isn't {image_id}.")
        return self._states.adopt(server_id, image_id)

    def _fill(self, container_id: str, place: volumes.Place, parcel: parcels.Parcel) -> None:
        part = parcel.part()
        volumes.fill(self._engine, container_id, place, part)
        for _rest in part:
            pass


def _listed(parcel: parcels.Parcel) -> tuple[str, Sequence[volumes.Place]]:
    """Return the state's id, and where volumes are, from the first part of a parcel."""
    text = b""
    for piece in parcel.part():
        text += piece
        if len(text) > _LONGEST_LIST:
            raise exceptions.InvalidRequest("The other host's parcel has too long a list.")
    try:
        listed = json.loads(text)
        image_id, places = listed["image"], [volumes.Place(**each) for each in listed["volumes"]]
        if _IMAGE.fullmatch(image_id) and all(each.target.startswith("/") for each in places):
            return image_id, places
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise exceptions.InvalidRequest("The other host's parcel has no list.") from exc
    raise exceptions.InvalidRequest("The other host's parcel has a bad list.")
