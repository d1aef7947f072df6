# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet verify``: whether an image may be deployed."""

import argparse
import json
from pathlib import Path

from cliff import lister

from container_stack import exceptions
from container_stack.cmd import exit_code
from container_stack.cmd.storlet import bars, opening, options
from container_stack.storlets import model
from container_stack.storlets.verification import report, trial


class Verify(exit_code.ExitCode, lister.Lister):
    """Run the twelve checks on an image, a file or an uploaded one (both roles).

    Nothing that is deployed is touched. Every check that failed comes with its cure. The exit
    code is 0 when the image may be deployed; warnings don't count.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument("file", metavar="FILE", nargs="?", help="archive of the image")
        what.add_argument("--object", metavar="NAME", help="an uploaded image instead")
        parser.add_argument(
            "--base", metavar="NAME", help="the base in the engine; default: what base_image says"
        )
        parser.add_argument(
            "--java", action="store_true", help="the image must be able to run storlets in Java"
        )
        parser.add_argument("--report", metavar="FILE", help="write the report as JSON, too")
        parser.add_argument(
            "--store-report",
            action="store_true",
            help="store the report beside the uploaded image, as NAME.report.json",
        )
        add_trial(parser)
        options.add_all(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        with bars.Bars(self.app.stderr) as progress:
            made = self._verify(parsed_args, progress)
        if parsed_args.report:
            text = json.dumps(made.to_json(), indent=2)
            Path(parsed_args.report).write_text(f"{text}\n", encoding="utf-8")
        self.code = int(not made.passed)
        return table(made)

    def _verify(self, args: argparse.Namespace, progress: bars.Bars) -> report.Report:
        if args.store_report and not args.object:
            raise exceptions.InvalidRequest("--store-report is for an uploaded image: --object.")
        trial = make_trial(args)
        if args.object:
            manager = opening.manager(args)
            return manager.verify(
                manager.account(args.account),
                args.object,
                base_image=args.base,
                trial=trial,
                java=args.java,
                store_report=args.store_report,
                progress=progress,
            )
        if args.account:
            account = model.Account(args.account, options.settings(args).reseller_prefix)
        else:
            account = opening.manager(args).account()
        return opening.workbench(args).verify(
            args.file,
            account,
            base_image=args.base,
            trial=trial,
            java=args.java,
            progress=progress,
        )


def table(made: report.Report) -> options.Table:
    """Return a report as rows."""
    rows = [
        (each.number, each.check, str(each.state), each.detail, each.cure) for each in made.findings
    ]
    return ("#", "Check", "State", "Detail", "Cure"), rows


def add_trial(parser: argparse.ArgumentParser) -> None:
    """Let a command take a storlet for the twelfth check."""
    group = parser.add_argument_group(
        "the account's own storlet", "run in the image as a request would, and its output compared"
    )
    group.add_argument("--storlet", metavar="FILE", help="as it would be uploaded: thumbnail.py")
    group.add_argument("--main", metavar="NAME", help="its class: thumbnail.Thumbnail")
    group.add_argument("--input", metavar="FILE", help="bytes of the object that it gets")
    group.add_argument(
        "--expect", metavar="FILE", help="bytes that must come out; without it any may"
    )
    group.add_argument(
        "--language", choices=("python", "java"), default="python", help="default: %(default)s"
    )
    group.add_argument("--python-version", metavar="VERSION", help="such as 3.11")
    group.add_argument(
        "--dependency", metavar="FILE", action="append", default=[], help="may be given again"
    )
    pairs = {
        "--parameter": "what a request gives in X-Storlet-Parameter-...; may be given again",
        "--metadata": "of the object; may be given again",
        "--expect-metadata": "that must come out; may be given again",
    }
    for option, text in pairs.items():
        group.add_argument(
            option,
            metavar="NAME=VALUE",
            action="append",
            default=[],
            type=options.pair,
            help=text,
        )


def make_trial(args: argparse.Namespace) -> trial.Trial | None:
    """Return the storlet that the arguments give.

    :raises InvalidRequest: something is missing, or no gateway would run it so.
    """
    options.check_together(args, "storlet", "main", "input")
    if not args.storlet:
        return None
    return trial.Trial(
        file=args.storlet,
        main=args.main,
        input=args.input,
        output=args.expect,
        language=args.language,
        version=args.python_version,
        dependencies=tuple(args.dependency),
        parameters=dict(args.parameter),
        metadata=dict(args.metadata),
        output_metadata=dict(args.expect_metadata) or None,
    )
