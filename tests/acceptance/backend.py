# SPDX-License-Identifier: Apache-2.0
"""A share service with one back end, run by root or by the service's own user."""

import contextlib
import dataclasses
import os
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from . import account, manila, process, rest

_READY = "Finished initialization of driver"
#: Manila tries again for ever; a test needs to know now.
_FAILED = ("Error encountered during initialization of driver", "exited with status 1")


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where and as whom a share service runs, before it has options.

    :param name: of the back end.
    :param directory: all that it writes is below.
    :param rootwrap: the directory of its ``rootwrap.conf``, which only root may write.
    """

    name: str
    directory: Path
    rootwrap: Path
    identity: process.Identity


@dataclasses.dataclass(frozen=True, slots=True)
class Backend:
    """A running share service."""

    place: Place
    plane: manila.ControlPlane
    service: process.Process

    @property
    def host(self) -> str:
        """The back end's name in Manila."""
        return f"{manila.HOST}@{self.place.name}"

    def client(self, project: str = "sailors") -> rest.Client:
        """Return a project's client."""
        return self.plane.client(project, self.service)

    def restart(self) -> None:
        """Start the service again after its end, and wait until it takes orders."""
        before = self._said(_READY)
        self.service.start()
        self._wait_until_ready(before)

    def wait_until_ready(self) -> None:
        """Wait until the service takes orders and the scheduler knows its pools."""
        self._wait_until_ready(0)
        client = self.client()
        client.wait(f"a pool of {self.host}", lambda: client.pools(self.host))

    def _wait_until_ready(self, before: int) -> None:
        # The API's word on a service outlives the service by a minute; its log tells at once.
        failures = [self._said(words) for words in _FAILED]

        def probe() -> bool:
            assert [self._said(words) for words in _FAILED] == failures, self.service.tail(60)
            return self._said(_READY) > before

        process.wait_for(f"share service {self.place.name}", probe, processes=[self.service])

    def _said(self, words: str) -> int:
        """Return how often the service has said something."""
        return self.service.log.read_text(errors="replace").count(words)


@contextlib.contextmanager
def running(
    plane: manila.ControlPlane,
    name: str,
    options: Callable[[Place], Mapping[str, object]],
    *,
    normal_user: bool,
    user: str = account.NAME,
    more: manila.Sections = types.MappingProxyType({}),
    beside: manila.Sections = types.MappingProxyType({}),
) -> Iterator[Backend]:
    """Run a share service whose back end has these options.

    :param normal_user: run it as a user of its own, called ``user``, instead of as root.
    :param more: options of the service, not of the back end.
    :param beside: what further back ends have otherwise; ``more`` has to enable them.
    """
    with contextlib.ExitStack() as undo:
        place = undo.enter_context(_place(plane.directory / name, user if normal_user else None))
        config = place.directory / "share.conf"
        backend_options = {"share_backend_name": name, **options(place)}
        manila.write_config(
            config,
            manila.share_service_options(name, place.directory, backend_options),
            {each: {**backend_options, **differs} for each, differs in beside.items()},
            more,
        )
        service = manila.service(
            "manila-share",
            place.directory,
            [plane.config, config],
            name=f"manila-share-{name}",
            identity=place.identity,
        )
        backend = Backend(place, plane, undo.enter_context(service))
        backend.wait_until_ready()
        yield backend


@contextlib.contextmanager
def _place(directory: Path, user: str | None) -> Iterator[Place]:
    rootwrap = directory.with_name(f"{directory.name}.rootwrap")
    for path in (directory, rootwrap):
        path.mkdir(mode=0o755)
    with contextlib.ExitStack() as undo:
        identity = process.ROOT
        if user:
            undo.enter_context(account.reachable(directory, rootwrap, *account.CODE))
            made = account.normal_user(home=directory, rootwrap=rootwrap, name=user)
            identity = undo.enter_context(made)
        os.chown(directory, identity.user, identity.group)
        yield Place(directory.name, directory, rootwrap, identity)
