# SPDX-License-Identifier: Apache-2.0
"""What a verification needs to run an image as Swift's servers do.

:class:`container_stack.drivers.storlet_runtime.GatewayRuntime` does it by storlets' own gateway.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from container_stack.storlets.verification import trial as trials


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where a candidate is to run.

    :param engine_url: the engine of this host.
    :param directory: for the gateway's files; its user may own it.
    :param scope: what the gateway takes for the account.
    :param options: the gateway's configuration.
    :param start_timeout: seconds that the gateway waits for a sandbox.
    """

    engine_url: str
    directory: str
    scope: str
    options: Mapping[str, str]
    start_timeout: float


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """What came out of a storlet.

    :param size: bytes; fewer than there were, if they aren't what was expected.
    :param sha256: of these.
    :param differs: the first byte that isn't as expected; None if all are.
    :param seconds: the start of its daemon included.
    """

    size: int
    sha256: str
    differs: int | None
    metadata: Mapping[str, Any]
    seconds: float


class Sandbox(Protocol):
    """A sandbox of the candidate.

    :raises ProbeFailed: it doesn't do what it should, in the time that it has.
    """

    def start(self) -> float:
        """Start it, and return the seconds that it took to answer a ping."""

    def run(self, trial: trials.Trial) -> Answer:
        """Run a storlet in it, and return what came out."""


class Runtime(Protocol):
    """What runs sandboxes as Swift's servers do."""

    def open(
        self, place: Place, watch: Callable[[], None]
    ) -> contextlib.AbstractContextManager[Sandbox]:
        """Lend a sandbox that isn't started yet. It is the caller who removes its container.

        :param watch: called several times a second; what it raises ends the sandbox's run.
        :raises HostNotReady: it can't run here.
        """
