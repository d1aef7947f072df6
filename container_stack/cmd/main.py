# SPDX-License-Identifier: Apache-2.0
"""The program ``container-stack``; its commands are entry points in ``container_stack.cli``."""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import metadata

from cliff import app, commandmanager

NAMESPACE = "container_stack.cli"
#: Libraries whose every word would drown what we say.
NOISY = ("docker", "manila", "oslo_rootwrap", "smbprotocol", "spnego", "stevedore", "urllib3")


class Commands(commandmanager.CommandManager):
    """Finds commands and imports none; cliff's own imports all, for the better part of a second."""

    def load_commands(self, namespace: str) -> None:
        """Know the commands of a namespace by name."""
        self.group_list.append(namespace)
        for point in metadata.entry_points(group=namespace):
            self.commands[point.name.replace("_", " ")] = point


class ContainerStack(app.App):
    """The application: global options, logging, and errors as one line."""

    NAME = app.App.NAME = "container-stack"

    def __init__(self) -> None:
        super().__init__(
            description="OpenStack-style drivers on Docker and LVM: checks, set-up and a demo.",
            version=metadata.version("container-stack"),
            command_manager=Commands(NAMESPACE),
            deferred_help=True,
        )

    def configure_logging(self) -> None:
        """Log to standard error: warnings, or with -v what is done, or with -vv everything."""
        super().configure_logging()
        console = logging.getLogger().handlers[-1]
        level = {2: logging.INFO, 3: logging.DEBUG}
        console.setLevel(level.get(self.options.verbose_level, logging.WARNING))
        console.setFormatter(_OneLine("%(message)s"))
        for name in NOISY:
            logging.getLogger(name).setLevel(logging.WARNING)

    def interact(self) -> None:
        """Show the help: there is no interactive mode."""
        self.run_subcommand(["help"])


class _OneLine(logging.Formatter):
    """Keeps a message on one line; a traceback, which --debug asks for, stays as it is."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return " ".join(super().formatMessage(record).split())


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    if not sys.warnoptions:
        # Other projects' deprecations are no news for who types a command.
        warnings.simplefilter("ignore")
    # Tables fit the terminal; where there is none they are as wide as they need.
    os.environ.setdefault("CLIFF_FIT_WIDTH", "1")
    words = list(sys.argv[1:] if argv is None else argv)
    return ContainerStack().run(words or ["help"])


if __name__ == "__main__":
    sys.exit(main())
