# SPDX-License-Identifier: Apache-2.0
"""A volume driver for the Docker Engine: what ``docker volume create -d NAME`` talks to.

The protocol: https://docs.docker.com/engine/extend/plugins_volume/ . Docker waits two minutes for
a Mount and then takes it as failed, without another word; a Mount that Docker doesn't wait for any
more is undone.
"""

import functools
import json
import logging
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from container_stack import exceptions
from container_stack.drivers import docker_mounts, docker_options, docker_uses
from container_stack.drivers.osd import servers
from container_stack.host import containers
from container_stack.volumes import model, service

LOG = logging.getLogger(__name__)

#: Seconds after which a Mount or Create isn't answered as done: Docker's two minutes, less what
#: its connection and the answer may take.
PATIENCE = 110.0
#: Threads for what may take long, and for what doesn't; each driver has its own.
SLOW_THREADS, THREADS = 24, 4

_TYPE = "application/vnd.docker.plugins.v1.2+json"
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SLOW = frozenset(f"/VolumeDriver.{name}" for name in ("Create", "Remove", "Mount", "Unmount"))

Body = Mapping[str, Any]
#: Tells whether nobody waits for the answer any more.
Gone = Callable[[], bool]


class VolumePlugin:
    """What the engine asks of one driver, as a WSGI application.

    :param patience: seconds that Docker waits.
    """

    def __init__(
        self,
        volumes: service.VolumeService,
        mounts: docker_mounts.Mounts,
        patience: float = PATIENCE,
    ) -> None:
        self._volumes = volumes
        self._mounts = mounts
        self._patience = patience
        self._calls: dict[str, Callable[[Body, Gone], Body]] = {
            "/Plugin.Activate": lambda body, gone: {"Implements": ["VolumeDriver"]},
            "/VolumeDriver.Capabilities": self._capabilities,
            "/VolumeDriver.Create": self._create,
            "/VolumeDriver.Get": self._get,
            "/VolumeDriver.List": self._list,
            "/VolumeDriver.Mount": self._mount,
            "/VolumeDriver.Path": self._show_path,
            "/VolumeDriver.Remove": self._remove,
            "/VolumeDriver.Unmount": self._unmount,
        }

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI wants it; what went wrong is told in the protocol's own form."""
        status, answer = self._answer(environ)
        text = json.dumps(answer).encode()
        start(status, [("Content-Type", _TYPE), ("Content-Length", str(len(text)))])
        return [text]

    def _answer(self, environ: Mapping[str, Any]) -> tuple[str, Body]:
        call = self._calls.get(environ["PATH_INFO"])
        if call is None:
            return "404 Not Found", {"Err": "A volume driver has nothing there."}
        if environ["REQUEST_METHOD"] != "POST":
            return "405 Method Not Allowed", {"Err": "Plugins are asked by POST."}
        try:
            gone = environ.get("waitress.client_disconnected", lambda: False)
            return "200 OK", {**call(_body(environ), gone), "Err": ""}
        except exceptions.ContainerStackError as exc:
            LOG.debug("Refused %(path)s: %(why)s", {"path": environ["PATH_INFO"], "why": exc})
            return "200 OK", {"Err": str(exc)}
        except Exception:
            LOG.exception("Couldn't answer %(path)s", {"path": environ["PATH_INFO"]})
            return "200 OK", {"Err": "Something went wrong; the daemon's log says what."}

    # What Docker asks ---------------------------------------------------------------------

    def _capabilities(self, _body: Body, _gone: Gone) -> Body:
        shared = self._volumes.backend.shared
        return {"Capabilities": {"Scope": "global" if shared else "local"}}

    def _create(self, body: Body, gone: Gone) -> Body:
        name = model.check_name(body.get("Name"))
        wish = docker_options.parse(body.get("Opts"))
        end = self._deadline(gone)
        with self._mounts.traffic.hold(name):
            end()
            parent = self._source(wish.source) if wish.source else None
            if not self._exists(name, wish, parent):
                made = self._volumes.create(
                    name,
                    wish.new(parent),
                    labels=wish.labels or {},
                    source=model.Source(parent.id if parent else ""),
                )
                end(functools.partial(self._volumes.delete, made.id))
        return {}

    def _remove(self, body: Body, _gone: Gone) -> Body:
        name = model.check_name(body.get("Name"))
        with self._mounts.traffic.hold(name):
            try:
                volume = self._volumes.find(name)
            except exceptions.NotFound:
                # Docker asks again when an answer was lost.
                return {}
            self._mounts.end_what_a_crash_left(name)
            self._volumes.delete(volume.id)
        return {}

    def _mount(self, body: Body, gone: Gone) -> Body:
        name, holder = model.check_name(body.get("Name")), _holder(body)
        end = self._deadline(gone)
        with self._mounts.traffic.hold(name):
            end()
            volume = self._volumes.find(name)
            path = self._volumes.mount(volume.id, self._mounts.path(name), holder=holder)
            end(functools.partial(self._volumes.unmount, volume.id, path, holder=holder))
        return {"Mountpoint": path}

    def _unmount(self, body: Body, _gone: Gone) -> Body:
        name, holder = model.check_name(body.get("Name")), _holder(body)
        with self._mounts.traffic.hold(name):
            # What is mounted is known here, even when the registry isn't to be reached.
            for use in self._mounts.counted().get(name, ()):
                if use.holder == holder:
                    self._volumes.unmount(use.volume_id, use.path, holder=holder)
        return {}

    def _show_path(self, body: Body, _gone: Gone) -> Body:
        return {"Mountpoint": self._mounts.mountpoint(self._find(body))}

    def _get(self, body: Body, _gone: Gone) -> Body:
        volume = self._find(body)
        return {"Volume": {**self._described(volume), "Status": _status(volume)}}

    def _list(self, _body: Body, _gone: Gone) -> Body:
        return {"Volumes": [self._described(each) for each in self._volumes.list()]}

    # What that needs ----------------------------------------------------------------------

    def _deadline(self, gone: Gone) -> Callable[..., None]:
        """Return what ends a request, undoing what was done, if nobody waits for it any more."""
        latest = time.monotonic() + self._patience

        def end(undo: Callable[[], object] = lambda: None) -> None:
            if gone() or time.monotonic() > latest:
                undo()
                raise exceptions.Busy("It took longer than Docker waits, and was undone.")

        return end

    def _find(self, body: Body) -> model.Volume:
        return self._volumes.find(model.check_name(body.get("Name")))

    def _source(self, text: str) -> model.Volume:
        """Return the volume of a name or an id."""
        try:
            return self._volumes.find(text)
        except (exceptions.NotFound, exceptions.InvalidRequest):
            return self._volumes.get(model.check_id(text))

    def _exists(self, name: str, wish: docker_options.Wish, parent: model.Volume | None) -> bool:
        try:
            volume = self._volumes.find(name)
        except exceptions.NotFound:
            return False
        if not wish.is_met_by(volume, parent):
            raise exceptions.AlreadyExists(f"There is a volume {name}, made with other options.")
        return True

    def _described(self, volume: model.Volume) -> dict[str, Any]:
        return {
            "Name": volume.name,
            "Mountpoint": self._mounts.mountpoint(volume),
            "CreatedAt": volume.created_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }


class DockerVolumes:
    """Offers one Open Storage driver to the Docker Engine: a socket, and threads that answer.

    :param path: of the socket, such as /run/docker/plugins/btrfs.sock.
    :param directory: where volumes are mounted for Docker: ``<state_dir>/mounts/<driver>``.
    :param engine: whose containers use them; None where nobody can be asked.
    :param group: who may connect, beside this user.
    :param inherited: a socket that listens already, as systemd hands it over.
    :param grace: seconds in which a container starts after its volume was mounted.
    :param patience: seconds that Docker waits for a Mount.
    """

    def __init__(
        self,
        volumes: service.VolumeService,
        path: str,
        directory: str,
        *,
        engine: containers.Engine | None = None,
        group: str = "",
        inherited: socket.socket | None = None,
        grace: float = docker_uses.GRACE,
        patience: float = PATIENCE,
    ) -> None:
        self._mounts = docker_mounts.Mounts(volumes, directory, engine, grace)
        self._server = servers.Server(
            VolumePlugin(volumes, self._mounts, patience),
            path,
            group=group,
            threads=THREADS,
            slow_threads=SLOW_THREADS,
            is_slow=lambda method, path: path in _SLOW,
            inherited=inherited,
        )

    def start(self) -> None:
        """Answer the engine from now on.

        :raises HostNotReady: nobody can listen there; the text says why.
        """
        self._server.start()

    def stop(self) -> None:
        """Finish what was asked for, and answer no more; volumes stay mounted. Idempotent."""
        self._server.stop()

    def settle(self, live: docker_uses.Live | None) -> Sequence[str]:
        """Make the uses what they really are, as far as anybody knows; say what was done."""
        return self._mounts.settle(live)


def _body(environ: Mapping[str, Any]) -> Body:
    text = environ["wsgi.input"].read()
    try:
        body = json.loads(text or b"{}")
    except (ValueError, RecursionError) as exc:
        raise exceptions.InvalidRequest("The body of the request is no JSON.") from exc
    if body is not None and not isinstance(body, dict):
        raise exceptions.InvalidRequest("The body of the request is no JSON object.")
    return body or {}


def _holder(body: Body) -> str:
    holder = body.get("ID")
    if not isinstance(holder, str) or not _ID.fullmatch(holder):
        raise exceptions.InvalidRequest(f"{str(holder)[:80]!r} can't be the ID of a mount.")
    return holder


def _status(volume: model.Volume) -> Mapping[str, Any]:
    """Return what ``docker volume inspect`` shows beside the protocol's own."""
    shown = {
        "id": volume.id,
        "state": (volume.state.name or "").lower(),
        "status": str(volume.status),
        "size": volume.spec.size,
        "format": volume.format,
        "usage": volume.usage,
        "labels": dict(volume.labels),
        "parent": volume.source.parent,
        "attached_on": volume.attached_on,
        "error": volume.error,
    }
    return {name: value for name, value in shown.items() if value not in ("", {})}
