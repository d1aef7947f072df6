# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet build`` and ``run``: an image, before anybody else sees it."""

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cliff import columns, command, show

from container_stack.cmd import exit_code
from container_stack.cmd.storlet import bars, opening, options
from container_stack.host import console

if TYPE_CHECKING:
    from container_stack.storlets.workbench import dockerfile_rules


class Findings(columns.FormattableColumn):  # type: ignore[type-arg]
    """What a build has to say of a Dockerfile."""

    _value: "Sequence[dockerfile_rules.Finding]"

    def human_readable(self) -> str:
        """Return a line for each."""
        return "\n".join(map(_text, self._value))

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return each with its line, state, detail and cure."""
        return [
            {
                "line": each.line,
                "state": str(each.state),
                "detail": each.detail,
                "cure": each.cure,
            }
            for each in self._value
        ]


class Build(exit_code.ExitCode, show.ShowOne):
    """Build an image over the base from a Dockerfile (account manager).

    The Dockerfile is checked before anything is built: it must begin FROM the base, and have
    neither ENTRYPOINT nor CMD. The exit code is 1 when it was refused.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("directory", metavar="DIRECTORY", help="with the Dockerfile in it")
        parser.add_argument(
            "--tag", "-t", metavar="NAME", required=True, help="what the image is to be called"
        )
        parser.add_argument(
            "--output", "-o", metavar="FILE", help="write the image's archive to this file, too"
        )
        parser.add_argument(
            "--base", metavar="NAME", help="the base in the engine; default: what base_image says"
        )
        parser.add_argument(
            "--file", metavar="NAME", default="Dockerfile", help="default: %(default)s"
        )
        parser.add_argument(
            "--build-arg",
            metavar="NAME=VALUE",
            action="append",
            default=[],
            type=options.pair,
            help="a value for ARG, which the image's history will show; may be given again",
        )
        parser.add_argument(
            "--network", metavar="NAME", help="for RUN: none, host or a network of the engine's"
        )
        parser.add_argument("--no-cache", action="store_true", help="run every line anew")
        parser.add_argument("--dry-run", action="store_true", help="only check the Dockerfile")
        options.add_config(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        bench = opening.workbench(parsed_args)
        with bars.Bars(self.app.stderr) as progress:
            result = bench.build(
                parsed_args.directory,
                parsed_args.tag,
                base_image=parsed_args.base,
                file=parsed_args.file,
                arguments=dict(parsed_args.build_arg),
                network=parsed_args.network,
                cache=not parsed_args.no_cache,
                dry_run=parsed_args.dry_run,
                output=lambda line: progress.say(line),
                progress=progress,
            )
            if result.image and parsed_args.output:
                bench.save(result.image.id, parsed_args.output, progress)
        self.code = int(result.refused)
        image = result.image
        return ("Name", "ID", "Size", "Archive", "Findings"), (
            parsed_args.tag if image else None,
            image and image.id,
            image and image.size,
            parsed_args.output if image else None,
            Findings(result.findings),
        )


class Run(command.Command):
    """Run a command in an image as a sandbox is run (account manager).

    It has a sandbox's user, its limits of memory, CPU and processes, and no network. The exit
    code is the command's. What it writes goes with it.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_config(parser)
        parser.add_argument("image", metavar="IMAGE", help="name or ID in the engine")
        parser.add_argument(
            "command",
            metavar="-- COMMAND",
            nargs=argparse.REMAINDER,
            help="with its arguments; default: /bin/bash",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> int:
        words = [*parsed_args.command]
        if words[:1] == ["--"]:
            del words[0]
        bench = opening.workbench(parsed_args)
        return bench.run(parsed_args.image, words or ["/bin/bash"], console.Console())


def _text(finding: "dockerfile_rules.Finding") -> str:
    where = f"line {finding.line}: " if finding.line else ""
    return f"{finding.state}: {where}{finding.detail}; {finding.cure}"
