# SPDX-License-Identifier: Apache-2.0
"""The driver under test, which can be held at any step of an operation.

manila-share loads it in place of the driver itself. A step is the moment before a privileged
command or a change to the engine, or the moment after it. The tests name an operation and a step
in a file; the driver says in another that it is there, and waits until the first is gone.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from container_stack.drivers import manila
from container_stack.drivers.manila import copying, newcomers
from container_stack.host import containers
from container_stack.rootwrap import executor
from container_stack.shares import assembly

#: What Manila asks of a driver, by the tests' names for it.
OPERATIONS = {
    "server": "_setup_server",
    "create": "create_share",
    "rule": "update_access",
    "extend": "extend_share",
    "shrink": "shrink_share",
    "snapshot": "create_snapshot",
    "clone": "create_share_from_snapshot",
    "revert": "revert_to_snapshot",
    "delete": "delete_share",
}
_CHANGES = (
    "create",
    "create_network",
    "create_volume",
    "exec",
    "remove",
    "remove_network",
    "remove_volume",
    "rename",
    "start",
)
#: Seconds that an operation is held at most.
_PATIENCE = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Hold:
    """The tests' end of it.

    :param directory: where the files are.
    """

    directory: Path

    def at(self, operation: str, step: int) -> None:
        """Have the next such operation held at this step, counted from one."""
        self.reached.unlink(missing_ok=True)
        self._put(self._wanted, f"{operation} {step}")

    def release(self) -> None:
        """Let it go on, or have none held."""
        self._wanted.unlink(missing_ok=True)

    def steps(self, operation: str) -> int:
        """Return how many steps the last such operation had that came to its end; 0 for none."""
        path = self._count(operation)
        return int(path.read_text()) if path.exists() else 0

    @property
    def reached(self) -> Path:
        """The file that is there when an operation is held, with where."""
        return self.directory / "reached"

    # The driver's end ------------------------------------------------------------------------

    def stop_at(self, operation: str, step: int, what: str) -> None:
        """Wait here as long as the tests want it."""
        here = f"{operation} {step}"
        if self._read(self._wanted) == here:
            self._wait(here, what)

    def stop_at_end(self, operation: str, steps: int) -> None:
        """Wait if the tests want a later step than there is: not every time has as many."""
        wanted = self._read(self._wanted)
        if wanted.partition(" ")[0] == operation and not self.reached.exists():
            self._wait(wanted, f"the end, after {steps} steps")

    def _wait(self, wanted: str, what: str) -> None:
        self._put(self.reached, f"{wanted}: {what}")
        end = time.monotonic() + _PATIENCE
        while self._read(self._wanted) == wanted and time.monotonic() < end:
            time.sleep(0.01)

    def counted(self, operation: str, steps: int) -> None:
        """Say how many steps an operation had."""
        self._put(self._count(operation), str(steps))

    @property
    def _wanted(self) -> Path:
        return self.directory / "wanted"

    def _count(self, operation: str) -> Path:
        return self.directory / f"steps-{operation}"

    @staticmethod
    def _read(path: Path) -> str:
        try:
            return path.read_text()
        except FileNotFoundError:
            return ""

    @staticmethod
    def _put(path: Path, text: str) -> None:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)


@dataclasses.dataclass
class _Counter:
    """The operation that is under way, of which the tests ask one at a time, and its steps so far.

    It may have several threads. What Manila asks for by itself has no steps.
    """

    operation: str = ""
    steps: int = 0


class SteppedDriver(manila.ContainerShareDriver):
    """The driver as it is, but for the steps."""

    def do_setup(self, context: Any) -> None:
        super().do_setup(context)
        hold, counter = Hold(Path(self._settings.state_dir).parent), _Counter()
        engine = containers.Engine(self._settings.docker_url)
        run = executor.Executor(self._settings.root_helper, state_dir=self._settings.state_dir)
        run.run = _stepping(run.run, hold, counter)  # type: ignore[method-assign]
        for name in _CHANGES:
            setattr(engine, name, _stepping(getattr(engine, name), hold, counter))
        self._shares = assembly.assemble(self._settings, engine, run)
        self._copies = copying.Copies(self._shares, self._memory, copying.PATIENCE)
        self._newcomers = newcomers.Newcomers(self._shares, self._settings)
        for operation, name in OPERATIONS.items():
            setattr(self, name, _operation(getattr(self, name), operation, hold, counter))


def _stepping(method: Callable[..., Any], hold: Hold, counter: _Counter) -> Callable[..., Any]:
    def step(*args: Any, **kwargs: Any) -> Any:
        what = f"{method.__name__} {args}"
        _step(hold, counter, f"before {what}")
        result = method(*args, **kwargs)
        _step(hold, counter, f"after {what}")
        return result

    return step


def _step(hold: Hold, counter: _Counter, what: str) -> None:
    if counter.operation:
        counter.steps += 1
        hold.stop_at(counter.operation, counter.steps, what)


def _operation(
    method: Callable[..., Any], operation: str, hold: Hold, counter: _Counter
) -> Callable[..., Any]:
    def operate(*args: Any, **kwargs: Any) -> Any:
        counter.operation, counter.steps = operation, 0
        try:
            result = method(*args, **kwargs)
            hold.stop_at_end(operation, counter.steps)
            hold.counted(operation, counter.steps)
            return result
        finally:
            counter.operation = ""

    return operate
