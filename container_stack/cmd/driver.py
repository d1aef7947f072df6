# SPDX-License-Identifier: Apache-2.0
"""``container-stack driver``: what is installed."""

import argparse
import inspect
from collections.abc import Iterator

from cliff import lister

from container_stack import exceptions, plugins
from container_stack.shares import protocols


class List(lister.Lister):
    """List drivers, shares' protocols and storage backends, and why one can't be imported."""

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], Iterator[tuple[str, ...]]]:
        return ("Kind", "Name", "What", "State"), rows()


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, name, description, and "ok" or the reason why it can't be used."""
    for kind, namespace in (("driver", plugins.DRIVERS), ("storage", plugins.STORAGE)):
        for name in plugins.names(namespace):
            try:
                found = plugins.load(namespace, name)
            except exceptions.ContainerStackError as exc:
                yield kind, name, "", str(exc)
            else:
                yield kind, name, _first_line(found), "ok"
        if kind == "driver":
            for each in protocols.PROTOCOLS.values():
                yield "protocol", each.name, each.summary, "ok"


def _first_line(found: object) -> str:
    # A factory is a class's method; the class says what it is.
    owner = getattr(found, "__self__", found)
    text = inspect.getdoc(owner if inspect.isclass(owner) else found) or ""
    return text.splitlines()[0] if text else ""
