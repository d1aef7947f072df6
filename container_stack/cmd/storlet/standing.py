# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet status``, ``history`` and ``gc``: what nodes have, and had."""

import argparse
from typing import TYPE_CHECKING, Any

from cliff import lister

from container_stack import exceptions
from container_stack.cmd import exit_code
from container_stack.cmd.storlet import accounts, bars, deployments, opening, options
from container_stack.cmd.storlet import verify as verifying

if TYPE_CHECKING:
    from container_stack.storlets.deployment import versions


class Status(exit_code.ExitCode, lister.Lister):
    """Tell how an account stands on every node (storlet manager).

    The exit code is 1 unless all nodes have the current version and no deployment is unfinished;
    `resume` cures both.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_all(parser, required=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        manager = opening.manager(parsed_args)
        with bars.Bars(self.app.stderr) as progress:
            found = manager.deployer.status(
                manager.account(parsed_args.account), deployments.watcher(progress)
            )
            if left := found.deployment:
                progress.say(
                    f"Version {left.version.number}, begun by {left.version.who}, isn't finished "
                    f"({left.phase}, wave {left.wave} of {left.waves}); resume it."
                )
        self.code = int(not found.right)
        rows = [
            (
                each.node,
                str(each.verdict),
                each.state and each.state.image_id,
                each.state and each.state.running,
                each.error,
            )
            for each in found.nodes
        ]
        return ("Node", "State", "Image", "Running", "Error"), rows


class History(lister.Lister):
    """List the versions of an account's image, the newest first (storlet manager)."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--report", metavar="VERSION", type=int, help="show that version's report instead"
        )
        options.add_all(parser, required=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        found = manager.deployer.history(account)
        if parsed_args.report is not None:
            for each in found:
                if each.number == parsed_args.report:
                    return verifying.table(each.report)
            raise exceptions.NotFound(f"{account.name} has no version {parsed_args.report}.")
        columns = ("Version", "When", "Who", "Image", "Object", "Outcome", "Restores", "Note")
        return columns, [_row(each) for each in found]


class GC(exit_code.ExitCode, lister.Lister):
    """Remove images of old versions from nodes and from Swift (storlet manager).

    Neither the current version nor the one before it goes, and nothing that is in use.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--account", metavar="AUTH_...", help="whose images; default: those of all accounts"
        )
        parser.add_argument(
            "--keep",
            metavar="N",
            type=int,
            help="versions that stay; default: what keep_versions says",
        )
        parser.add_argument("--dry-run", action="store_true", help="only tell what would go")
        options.add_config(parser)
        options.add_user(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        manager = opening.manager(parsed_args)
        wanted = manager.account(parsed_args.account) if parsed_args.account else None
        rows: list[tuple[Any, ...]] = []
        with bars.Bars(self.app.stderr) as progress:
            for each in manager.deployer.gc(
                wanted,
                keep=parsed_args.keep,
                watcher=deployments.watcher(progress),
                dry_run=parsed_args.dry_run,
            ):
                for image_id in {*each.images, *each.archives}:
                    nodes, stored = each.images.get(image_id, 0), image_id in each.archives
                    rows.append((each.account, image_id, nodes, stored, ""))
                errors = [*each.failures.items(), *([("", each.busy)] if each.busy else [])]
                for node, why in errors:
                    rows.append((each.account, "", 0, False, f"{node} {why}".strip()))
        self.code = int(any(row[-1] for row in rows))
        return ("Account", "Image", "Nodes", "In Swift", "Error"), rows


def _row(version: "versions.Version") -> tuple[Any, ...]:
    return (
        version.number,
        accounts.when(version.when),
        version.who,
        version.image_id,
        version.source and version.source.name,
        f"{version.outcome}: {version.error}" if version.error else str(version.outcome),
        version.restores,
        version.note,
    )
