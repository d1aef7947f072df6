# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with a simulated array, on demand."""

import dataclasses
import inspect
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from container_stack.testing.edf import errors, exports

#: Faults by the names under which a command line or a request asks for them.
KINDS = (
    "http_error",
    "delay",
    "drop_reply",
    "expire_keys",
    "volume_offline",
    "lose_portal",
    "fill",
)


@dataclasses.dataclass(slots=True)
class _Fault:
    kind: str
    method: str
    path: re.Pattern[str]
    times: int | None
    value: float = 0.0


class Faults:
    """Faults that are armed; each hits requests whose method and path fit its patterns.

    ``times`` says how many requests it hits; None: all until :meth:`clear`. Paths begin with the
    version, as /v2.2/system. Threads may share it.

    :param expire: forgets all keys.
    :param interrupt: takes a volume, named by its app instance, away from its initiators until
        it is called with None.
    """

    def __init__(
        self,
        expire: Callable[[], None],
        interrupt: Callable[[str | None], None],
        targets: exports.Exports,
    ) -> None:
        self._lock = threading.Lock()
        self._armed: list[_Fault] = []
        self._expire = expire
        self._interrupt = interrupt
        self._targets = targets
        self._lost: set[int] = set()
        self._full = False

    @property
    def full(self) -> bool:
        """Whether the array has no room, whatever its capacity."""
        return self._full

    def http_error(
        self, status: int, times: int | None = None, path: str = ".*", method: str = ".*"
    ) -> None:
        """Answer requests with this status, without doing anything."""
        self._arm("error", times, path, method, status)

    def delay(
        self, seconds: float, times: int | None = None, path: str = ".*", method: str = ".*"
    ) -> None:
        """Answer late."""
        self._arm("delay", times, path, method, seconds)

    def drop_reply(
        self, times: int | None = 1, path: str = ".*", method: str = "POST|PUT|DELETE"
    ) -> None:
        """Do what is asked, and close the connection instead of answering."""
        self._arm("drop", times, path, method)

    def expire_keys(self) -> None:
        """Forget all keys, as after fifteen minutes."""
        self._expire()

    def volume_offline(self, name: str) -> None:
        """Take away the volume of an app instance from under its initiators."""
        self._interrupt(name)

    def lose_portal(self, index: int) -> None:
        """Cut all connections to one of the two access addresses, and refuse new ones."""
        if not 0 <= index < len(self._targets.portals):
            raise ValueError(f"there is no access address {index}")
        self._targets.lose_portal(index)
        self._lost.add(index)

    def restore_portal(self, index: int) -> None:
        """Let it answer again."""
        self._targets.restore_portal(index)
        self._lost.discard(index)

    def fill(self) -> None:
        """Have no room for anything new.

        What is exported can still be written: tgt has no way to say that a pool is full. Put the
        array's directory on a small file system to see such writes fail.
        """
        self._full = True

    def clear(self) -> None:
        """End all faults."""
        with self._lock:
            self._armed.clear()
        self._full = False
        self._interrupt(None)
        for index in sorted(self._lost):
            self.restore_portal(index)

    def arm(self, kind: str, values: Mapping[str, Any]) -> None:
        """Arm one of :data:`KINDS`, with its arguments by name, which may be text.

        :raises ValueError: there is no such fault, or it has other arguments.
        """
        if kind not in KINDS:
            raise ValueError(f"there are the faults {', '.join(KINDS)}")
        method = getattr(self, kind)
        wanted = inspect.signature(method).parameters
        try:
            method(**{key: _converted(value, wanted[key]) for key, value in values.items()})
        except (KeyError, TypeError, re.error) as exc:
            raise ValueError(f"{kind} takes {', '.join(wanted) or 'nothing'}") from exc

    # For the server -----------------------------------------------------------------------

    def before(self, method: str, path: str) -> None:
        """Let strike what strikes before a request is looked at."""
        if fault := self._hit("delay", method, path):
            time.sleep(fault.value)
        if fault := self._hit("error", method, path):
            raise errors.ApiError(int(fault.value), "SimulatedError", "Fault on demand")

    def drops(self, method: str, path: str) -> bool:
        """Tell whether this request's reply gets lost."""
        return self._hit("drop", method, path) is not None

    def _arm(
        self, kind: str, times: int | None, path: str, method: str, value: float = 0.0
    ) -> None:
        with self._lock:
            self._armed.append(_Fault(kind, method, re.compile(path), times, value))

    def _hit(self, kind: str, method: str, path: str) -> _Fault | None:
        with self._lock:
            for fault in self._armed:
                fits = re.fullmatch(fault.method, method) and fault.path.search(path)
                if fault.kind != kind or not fits or fault.times == 0:
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


def _converted(value: Any, wanted: inspect.Parameter) -> Any:
    """Return a value as a parameter wants it: words of a command line are text."""
    for kind in (int, float):
        if kind.__name__ in str(wanted.annotation) and isinstance(value, str):
            return kind(value)
    return value
