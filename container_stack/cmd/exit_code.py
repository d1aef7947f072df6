# SPDX-License-Identifier: Apache-2.0
"""Commands that show what they found, and whose exit code says whether it was good."""

import argparse

from cliff import command


class ExitCode(command.Command):
    """Stands before the class that shows something; ``take_action`` sets :attr:`code`."""

    code = 0

    def run(self, parsed_args: argparse.Namespace) -> int:
        return int(super().run(parsed_args) or self.code)
