# SPDX-License-Identifier: Apache-2.0
"""The roots of containers that don't run, mounted on this host for who is to repair them.

It takes an engine on this host whose storage is overlay2. Two mounts of one root would spoil it
(kernel, overlayfs.rst, "Sharing and copying layers"): whoever asks sees to it that its container
isn't started meanwhile.
"""

import logging
import os

from container_stack import exceptions
from container_stack.host import containers, mount_points
from container_stack.rootwrap import commands, executor
from container_stack.servers import model

LOG = logging.getLogger(__name__)

#: The kernel takes a page of options, of which the words beside the layers need some.
LONGEST = 3900


class Roots:
    """Mounts roots below ``<state_dir>/mounts/rescue``.

    :param runner: runs what needs root.
    """

    def __init__(self, engine: containers.Engine, runner: executor.Executor) -> None:
        self._engine = engine
        self._points = mount_points.MountPoints(runner)
        self._directory = os.path.join(runner.state_dir, "mounts", "rescue")

    def show(self, server_id: str, container_id: str) -> str | None:
        """Mount the root of a server's stopped container and return where; idempotent.

        None means that this host can't, and a warning tells why.
        """
        layers = self._engine.layers(container_id)
        path = self._path(server_id)
        try:
            lower, upper, work = (layers[key] for key in ("LowerDir", "UpperDir", "WorkDir"))
            if len(lower + upper + work) > LONGEST:
                raise exceptions.NotSupported("it has too many layers.")
            self._points.mount(
                commands.disks.MOUNT_ROOT,
                path,
                lambda mount: mount.kind == "overlay",
                lower=lower,
                upper=upper,
                work=work,
            )
        except KeyError:
            self._warn(server_id, "the engine's storage isn't overlay2.")
            return None
        except exceptions.ContainerStackError as exc:
            self._warn(server_id, str(exc))
            return None
        return path

    def hide(self, server_id: str) -> None:
        """Unmount a server's root; idempotent.

        :raises Busy: somebody uses it.
        """
        self._points.unmount(self._path(server_id))

    def _path(self, server_id: str) -> str:
        return os.path.join(self._directory, model.check_id(server_id))

    def _warn(self, server_id: str, why: str) -> None:
        words = "Server %(id)s is rescued without a way to its root: %(why)s"
        LOG.warning(words, {"id": server_id, "why": why})
