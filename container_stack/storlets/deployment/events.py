# SPDX-License-Identifier: Apache-2.0
"""What a deployment tells of its progress."""

import dataclasses
import enum
import threading
import time
from collections.abc import Callable, Iterator

#: Seconds between two events about the same transfer.
PERIOD = 0.1


class Step(enum.StrEnum):
    """What is being done to the nodes."""

    #: They are asked how the account stands.
    SURVEY = "survey"
    #: The image is put by in Swift, for rollbacks and for nodes to come.
    ARCHIVE = "archive"
    STAGE = "stage"
    CANARY = "canary"
    WAVE = "wave"
    #: They go back to the image that each had before.
    UNDO = "undo"
    #: Those that aren't as they should be are put right.
    REPAIR = "repair"
    #: Images that are no longer kept are removed.
    COLLECT = "collect"


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One thing that has happened.

    :param node: the node that has got ready, or failed; empty in between.
    :param done: nodes that have got ready in this step.
    :param nodes: all that have to.
    :param wave: which wave, from 1 on; 0 where there are none.
    :param sent: bytes so far, in this step.
    :param size: bytes that are to be sent in it; as far as is known.
    :param error: why the node failed.
    """

    step: Step
    node: str = ""
    done: int = 0
    nodes: int = 0
    wave: int = 0
    waves: int = 0
    sent: int = 0
    size: int = 0
    error: str = ""


#: Told of events, by one thread at a time.
Watcher = Callable[[Event], None]


def unwatched(_event: Event) -> None:
    """Be a :data:`Watcher` that nobody looks at."""


class Narrator:
    """Tells a watcher of one step, whichever threads it goes on in.

    :param event: what is known before anything has been done.
    """

    def __init__(self, watcher: Watcher, event: Event) -> None:
        self._watcher = watcher
        self._event = event
        self._lock = threading.Lock()
        self._told = 0.0
        self._tell()

    def passed(self, pieces: Iterator[bytes]) -> Iterator[bytes]:
        """Yield bytes on their way to a node, and tell of them."""
        for piece in pieces:
            yield piece
            with self._lock:
                self._event = dataclasses.replace(
                    self._event, node="", error="", sent=self._event.sent + len(piece)
                )
                if time.monotonic() >= self._told + PERIOD:
                    self._tell()

    def ready(self, node: str, error: str = "") -> None:
        """Tell that a node has got ready, or why it hasn't."""
        with self._lock:
            done = self._event.done + (not error)
            self._event = dataclasses.replace(self._event, node=node, done=done, error=error)
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        self._watcher(self._event)
