# SPDX-License-Identifier: Apache-2.0
"""``container-stack host``: what this host lacks, with the cure."""

import argparse

from cliff import lister

from container_stack.cmd import backend, checks, exit_code
from container_stack.host import abilities


class Check(exit_code.ExitCode, lister.Lister):
    """Look whether drivers can work on this host; run it as the service's own user.

    Every lack comes with the command that cures it, to be typed as root. The exit code is 0 when
    every driver that was asked for can work as configured; warnings don't count.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--driver",
            action="append",
            choices=sorted(checks.DRIVERS),
            help="repeat for several; `shares` is a program of your own; default: manila",
        )
        backend.add_arguments(parser)
        return parser

    def take_action(
        self, parsed_args: argparse.Namespace
    ) -> tuple[tuple[str, ...], list[tuple[str, str, str, str]]]:
        settings = backend.settings(parsed_args)
        findings = [
            finding
            for driver in parsed_args.driver or ["manila"]
            for finding in checks.DRIVERS[driver](settings)
        ]
        self.code = int(any(each.level == abilities.Level.FAILURE for each in findings))
        rows = [(each.subject, str(each.level), each.detail, each.fix) for each in findings]
        return ("Subject", "State", "Detail", "Fix"), rows
