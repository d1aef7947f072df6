# SPDX-License-Identifier: Apache-2.0
"""The command itself: which walks there are, and what they have in common."""

import argparse
import contextlib
import dataclasses
import importlib
import os
import signal
from collections.abc import Iterable
from typing import Any, Protocol

from cliff import lister

from container_stack import exceptions
from container_stack.cmd import backend, exit_code
from container_stack.cmd.demo import steps
from container_stack.shares import image

#: Systems with a demo, each a module here, in the order of their walks.
SYSTEMS = ("manila", "nova", "glance", "osd")
#: Those that only root can be shown.
ROOTS = ("osd",)


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """What every walk is told.

    :param image: the share servers' image; built if it is missing.
    :param keep: wait for the user before everything is deleted.
    """

    docker_url: str
    image: str
    keep: bool


class Walk(Protocol):
    """One system's demo, in a directory of its own."""

    def __init__(self, options: Options, steps: steps.Steps) -> None: ...

    def there(self, undo: contextlib.ExitStack) -> None:
        """Walk there; ``undo`` gets the way back, which is walked whatever happens."""


class Demo(exit_code.ExitCode, lister.Lister):
    """Use each system as its service does, and leave nothing behind.

    manila: a share is made, used, extended and cut off. nova: a server is booted, resized, and
    made anew from its snapshot. glance: an image goes to a simulated
    Datera array and back, and is cloned. osd: a volume goes through containers, is snapshotted,
    cloned and grown, and outlives its daemon. Runs as root or, but for osd, as a user with sudo.
    Progress goes to standard error, the table of steps to standard output. The exit code isn't zero
    if any step went otherwise than promised.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "systems",
            nargs="*",
            metavar="SYSTEM",
            help=f"which systems to show, of {', '.join(SYSTEMS)}; default: all that this user may",
        )
        parser.add_argument(
            "--keep",
            action="store_true",
            help="before deleting, wait for Enter or Ctrl-C, so that you can look around",
        )
        parser.add_argument(
            "--docker-url", default=backend.docker_url(), help="default: %(default)s"
        )
        parser.add_argument("--image", default=image.REFERENCE, help="default: %(default)s")
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        options = Options(
            docker_url=parsed_args.docker_url,
            image=parsed_args.image,
            keep=parsed_args.keep,
        )
        walks = [_walk(name) for name in parsed_args.systems or _all()]
        taken = steps.Steps(self.app.stderr)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, taken.stop)
        self.code = _run((walk(options, taken) for walk in walks), taken)
        columns = ("Step", "Result", "Seconds", "Detail")
        return columns, [(s.title, s.result, s.seconds, s.detail) for s in taken.done]


def _run(walks: Iterable[Walk], taken: steps.Steps) -> int:
    """Walk there and back, up to the first failure; return the exit code."""
    try:
        for walk in walks:
            with contextlib.ExitStack() as undo:
                walk.there(undo)
    except KeyboardInterrupt:
        return 130
    except Exception as exc:  # whatever it is, it is in the table, and nothing is left
        taken.stream.write(f"The demo failed: {steps.told(exc)}\n")
    return 130 if taken.stopped else int(taken.failed)


def _all() -> list[str]:
    return [name for name in SYSTEMS if os.geteuid() == 0 or name not in ROOTS]


def _walk(name: str) -> type[Walk]:
    """Import late: every command's module is imported at every start, and few need a service."""
    if name not in SYSTEMS:
        raise exceptions.InvalidRequest(
            f"There is no demo of {name!r}; there are: {', '.join(SYSTEMS)}."
        )
    try:
        module = importlib.import_module(f"container_stack.cmd.demo.{name}")
    except ModuleNotFoundError as exc:
        raise exceptions.HostNotReady(
            f"The demo needs {exc.name}: pip install 'container-stack[manila,glance,osd,demo]'."
        ) from exc
    found: type[Walk] = module.Walk
    return found
