# SPDX-License-Identifier: Apache-2.0
"""Accounts, the names that the storlet runtime gives to what is theirs, and its sandboxes.

The facts come from storlets 18: storlets/gateway/gateways/container/runtime.py and
storlets/swift_middleware/handlers/base.py.
"""

import dataclasses
import re
from collections.abc import Callable

from container_stack import exceptions

#: Containers of an account that is enabled.
IMAGES, SEGMENTS = "docker_images", "docker_images_segments"
STORLETS, DEPENDENCIES, LOGS = "storlet", "dependency", "log"

#: Characters of an account's name that the runtime keeps; what comes after makes no difference.
SCOPE_LENGTH = 13

_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,255}")
_SCOPE = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*")

#: Told as work goes on: what is done, bytes so far, and all bytes or None while nobody knows.
Progress = Callable[[str, int, int | None], None]


def silent(_what: str, _done: int, _total: int | None) -> None:
    """Be a :data:`Progress` that nobody watches."""


@dataclasses.dataclass(frozen=True, slots=True)
class Account:
    """A Swift account.

    :param name: as Swift has it, with its reseller prefix: AUTH_305f5f3d12834be187238e080b8643e4.
    :raises InvalidRequest: the runtime would not use an image of this account's, and say nothing.
    """

    name: str
    prefix: str = "AUTH_"

    def __post_init__(self) -> None:
        if not _ACCOUNT.fullmatch(self.name) or not self.name.startswith(self.prefix):
            raise exceptions.InvalidRequest(
                f"{self.name!r} is no account; give it as in its URL, with {self.prefix}."
            )
        if not _SCOPE.fullmatch(self.scope):
            raise exceptions.InvalidRequest(
                f"Account {self.name} can't have an image of its own: the runtime would look for "
                f"one named {self.scope!r}, which is no image name, and run the default image."
            )

    @property
    def scope(self) -> str:
        """What the runtime knows the account by: image, directories and sandbox bear it."""
        return self.name.removeprefix(self.prefix)[:SCOPE_LENGTH]

    @property
    def image(self) -> str:
        """The reference that the runtime starts the account's sandbox from."""
        return f"{self.scope}:latest"

    @property
    def sandbox(self) -> str:
        """The name of the account's container on a node."""
        return f"{self.scope}_{self.scope}"


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a sandbox may take; None is no limit, as the runtime has it by default.

    :param memory: bytes.
    :param cpu_quota: microseconds of CPU in each ``cpu_period`` microseconds.
    :param pids: processes and threads.
    :param cpuset_cpus: as 0-3,7.
    """

    memory: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    pids: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None

    @property
    def missing(self) -> tuple[str, ...]:
        """Which of memory, CPU and pids have no limit, as options of the gateway."""
        wanted = {
            "container_mem_limit": self.memory,
            "container_cpu_quota": self.cpu_quota,
            "container_pids_limit": self.pids,
        }
        return tuple(name for name, value in wanted.items() if not value)
