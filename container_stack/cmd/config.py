# SPDX-License-Identifier: Apache-2.0
"""``container-stack config``: the sample configuration file."""

import argparse
import io
from importlib import metadata

from cliff import command
from oslo_config import cfg, generator


def sample() -> str:
    """Return a configuration file of every option, commented out, with its help."""
    points = metadata.entry_points(group="oslo.config.opts")
    names = sorted(point.name for point in points if point.name.startswith("container_stack."))
    conf = cfg.ConfigOpts()
    generator.register_cli_opts(conf)
    conf([f"--namespace={name}" for name in names], project="container-stack")
    text = io.StringIO()
    generator.generate(conf, output_file=text)
    return text.getvalue()


class Sample(command.Command):
    """Print the sample configuration file: every option of every driver."""

    def take_action(self, parsed_args: argparse.Namespace) -> None:
        self.app.stdout.write(sample())
