# SPDX-License-Identifier: Apache-2.0
"""``container-stack demo``: from a running engine to a share that clients use, and back."""

import argparse
import importlib
import signal
from typing import Any

from cliff import lister

from container_stack import exceptions
from container_stack.cmd import backend
from container_stack.shares import image


class Demo(lister.Lister):
    """Make a share with Manila's driver, use it, cut it off, and leave nothing behind.

    Runs as root or as a user with sudo. Progress goes to standard error, the table of steps to
    standard output. The exit code isn't zero if any step went otherwise than promised.
    """

    code = 0

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
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

    def run(self, parsed_args: argparse.Namespace) -> int:
        return int(super().run(parsed_args) or self.code)

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        walk = _module("demo_walk").Walk(
            docker_url=parsed_args.docker_url,
            image=parsed_args.image,
            stream=self.app.stderr,
            keep=parsed_args.keep,
        )
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, walk.steps.stop)
        self.code = walk.run()
        columns = ("Step", "Result", "Seconds", "Detail")
        return columns, [(s.title, s.result, s.seconds, s.detail) for s in walk.steps.done]


def _module(name: str) -> Any:
    """Import late: every command's module is imported at every start, and few need Manila."""
    try:
        return importlib.import_module(f"container_stack.cmd.{name}")
    except ModuleNotFoundError as exc:
        raise exceptions.HostNotReady(
            f"The demo needs {exc.name}: pip install 'container-stack[manila,demo]'."
        ) from exc
