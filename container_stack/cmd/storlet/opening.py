# SPDX-License-Identifier: Apache-2.0
"""What commands about storlets work with, made of their options.

What only an extra brings is imported when a command needs it, so that help and completion work
without.
"""

import argparse
import contextlib
import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

from container_stack import exceptions
from container_stack.cmd.storlet import options

if TYPE_CHECKING:
    from container_stack.drivers import storlet_workbench, storlets


def workbench(args: argparse.Namespace) -> "storlet_workbench.Workbench":
    """Return what builds, runs and verifies images on this host."""
    with extra():
        from container_stack.drivers import storlet_workbench
    return storlet_workbench.Workbench(options.settings(args))


def manager(args: argparse.Namespace) -> "storlets.ImageManager":
    """Return what works on accounts in Swift and on their nodes, as the user who asks."""
    with extra():
        from container_stack.drivers import storlets, swift
    environment = options.environment(args)
    values = options.settings(args)
    who = environment.get("OS_USERNAME") or environment.get("ST_USER") or ""
    credentials = swift.Credentials.from_environment(environment)
    store = swift.Swift(dataclasses.replace(credentials, timeout=values.swift_timeout))
    return storlets.ImageManager(values, store, who=who)


@contextlib.contextmanager
def extra() -> Iterator[None]:
    """Name the extra if what it brings isn't there.

    :raises NotSupported: it isn't.
    """
    try:
        yield
    except ImportError as exc:
        raise exceptions.NotSupported(
            f"This needs more: {exc}; pip install 'container-stack[swift]'."
        ) from exc
