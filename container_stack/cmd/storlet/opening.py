# SPDX-License-Identifier: Apache-2.0
"""What commands about storlets work with, made of their options.

What only an extra brings is imported when a command needs it, so that help and completion work
without.
"""

import argparse
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from container_stack import exceptions
from container_stack.cmd.storlet import options
from container_stack.storlets import model

if TYPE_CHECKING:
    from container_stack.drivers import storlet_workbench, swift


def workbench(args: argparse.Namespace) -> "storlet_workbench.Workbench":
    """Return what builds, runs and verifies images on this host."""
    with _extra():
        from container_stack.drivers import storlet_workbench
    return storlet_workbench.Workbench(options.settings(args))


def store(args: argparse.Namespace) -> "swift.Swift":
    """Return the account that a command is about: the one it names, or the user's own."""
    own = own_store(args)
    return own.to(args.account) if args.account else own


def own_store(args: argparse.Namespace) -> "swift.Swift":
    """Return the user's own account."""
    with _extra():
        from container_stack.drivers import swift
    return swift.Swift(swift.Credentials.from_environment(options.environment(args)))


def account(args: argparse.Namespace) -> model.Account:
    """Return the account that a command is about.

    :raises InvalidRequest: it can't have an image of its own, and why.
    """
    prefix = options.settings(args).reseller_prefix
    return model.Account(args.account or own_store(args).account, prefix)


@contextlib.contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ImportError as exc:
        raise exceptions.NotSupported(
            f"This needs more: {exc}; pip install 'container-stack[swift]'."
        ) from exc
