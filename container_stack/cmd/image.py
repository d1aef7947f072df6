# SPDX-License-Identifier: Apache-2.0
"""``container-stack image``: the images that drivers run."""

import argparse
import time
from collections.abc import Callable
from typing import Any, TextIO

from cliff import lister, show

from container_stack.cmd import backend
from container_stack.host import containers, images
from container_stack.shares import image

MIB = 1024**2


class BuildSamba(show.ShowOne):
    """Make the image of the share servers from Debian packages; no registry is needed."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--tag", metavar="NAME", help="default: what --image says")
        backend.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], tuple[Any, ...]]:
        settings = backend.settings(parsed_args)
        engine = containers.Engine(settings.docker_url, tls=settings.tls)
        made = image.build(
            images.Images(engine),
            reference=parsed_args.tag or settings.image,
            progress=progress(self.app.stderr),
        )
        return ("ID", "Tags", "Size"), (made.id, list(made.tags), made.size)


class List(lister.Lister):
    """List the images that this package made."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        backend.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        settings = backend.settings(parsed_args)
        engine = containers.Engine(settings.docker_url, tls=settings.tls)
        found = images.Images(engine).labelled("container_stack.image")
        columns = ("ID", "Tags", "Size", "Created")
        return columns, [
            (each.id, list(each.tags), each.size, each.created and each.created.isoformat())
            for each in found
        ]


def progress(stream: TextIO) -> Callable[[str, int, int], None]:
    """Return a callback that shows phases and bytes: one line that moves, or one for each phase."""
    started = time.monotonic()
    last = ""

    def show_progress(phase: str, done: int, total: int) -> None:
        nonlocal last
        amount = f"{done / MIB:5.1f} of {total / MIB:.1f} MiB" if total > 1 else ""
        line = f"{time.monotonic() - started:5.1f} s  {phase:<10}{amount}"
        if stream.isatty():
            ended = "\n" if done >= total else ""
            stream.write(f"\r{line:<60}{ended}")
        elif done >= total and phase != last:
            stream.write(f"{line.rstrip()}\n")
            last = phase
        stream.flush()

    return show_progress
