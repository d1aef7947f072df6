# SPDX-License-Identifier: Apache-2.0
"""An account on a node, and the containers that are its sandboxes there."""

import dataclasses
from collections.abc import Callable

from container_stack.host import containers
from container_stack.storlets import gateway
from container_stack.storlets.node import helper as helpers
from container_stack.storlets.node import sandbox


@dataclasses.dataclass(frozen=True, slots=True)
class Target:
    """What an account's requests are to run in.

    :param name: of the sandbox, as the gateway would name it.
    :param retag: makes the gateway start the same from now on, and returns what undoes that.
    :param strict: all storlets that run now must start in it.
    """

    image_id: str
    name: str
    retag: Callable[[], Callable[[], None]]
    strict: bool


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """An account on a node.

    :param base: ID of the operator's base image.
    :param user: UID of Swift's servers; None for that of the running sandbox, or of the owner of
        the directory of pipes.
    :param grace: seconds that a replaced sandbox may take to finish its requests.
    """

    engine: containers.Engine
    gateway: gateway.Gateway
    scope: str
    base: str
    user: str | None
    grace: float

    @property
    def beside(self) -> str:
        """The name of the account's other directory of pipes."""
        return helpers.beside(self.scope)

    @property
    def ours(self) -> str:
        """What names of sandboxes begin with that don't serve; no account's name does."""
        return f"{helpers.PREFIX}-{self.scope}-"

    @property
    def next(self) -> str:
        """The name of a sandbox that doesn't serve yet."""
        return f"{self.ours}next"

    def old(self, container: containers.Container) -> str:
        """Return the name of a sandbox that serves no longer."""
        return f"{self.ours}old-{container.id[:12]}"

    def sandboxes(self) -> list[containers.Container]:
        """Return the account's sandboxes, those that serve and others."""
        sources = {f"{self.gateway.pipes}/{name}" for name in (self.scope, self.beside)}
        return [
            each
            for each in self.engine.list(dict(sandbox.LABELS))
            if any(m.target == sandbox.CHANNELS and m.source in sources for m in each.mounts)
        ]
