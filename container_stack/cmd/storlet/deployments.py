# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet deploy`` and what follows: an account's image on all nodes."""

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from cliff import show

from container_stack.cmd import exit_code
from container_stack.cmd.storlet import bars, opening, options
from container_stack.cmd.storlet import verify as verifying

if TYPE_CHECKING:
    from container_stack.drivers import storlets
    from container_stack.storlets.deployment import deployer, events

#: What steps are called where bytes are counted, and where nodes are.
BYTES = {"archive": "Storing in Swift", "stage": "Sending to nodes"}
NODES = {
    "survey": "Asking nodes",
    "stage": "Nodes with the image",
    "canary": "Wave",
    "wave": "Wave",
    "undo": "Putting nodes back",
    "repair": "Putting nodes right",
    "collect": "Collecting",
}

RESULT = ("Version", "Image", "Changed", "Nodes", "Bytes", "Unfinished")


class _Change(exit_code.ExitCode, show.ShowOne):
    """A command that changes an account's nodes."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_all(parser, required=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        manager = opening.manager(parsed_args)
        with bars.Bars(self.app.stderr) as progress:
            done = self.change(manager, parsed_args, progress)
        row = result(done)
        self.code = int(bool(row[1][-1]))
        return row

    def change(
        self, manager: "storlets.ImageManager", args: argparse.Namespace, progress: bars.Bars
    ) -> "deployer.Result":
        """Do it."""
        raise NotImplementedError


class Deploy(_Change):
    """Verify an uploaded image, and let the account's storlets run in it (storlet manager).

    First every node gets the image, then one after another uses it: canaries, then waves. Each
    tries it before any request meets it. If anything fails, all nodes are back at the image that
    they had. Run again it changes nothing. The exit code is 1 when the image was refused.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the image's object in docker_images")
        parser.add_argument("--note", metavar="TEXT", default="", help="for the history")
        parser.add_argument(
            "--dry-run", action="store_true", help="verify, and tell what every node would need"
        )
        parser.add_argument(
            "--java", action="store_true", help="the image must be able to run storlets in Java"
        )
        parser.add_argument(
            "--store-report",
            action="store_true",
            help="store the report beside the image, as NAME.report.json",
        )
        verifying.add_trial(parser)
        return parser

    def change(
        self, manager: "storlets.ImageManager", args: argparse.Namespace, progress: bars.Bars
    ) -> "deployer.Result":
        return manager.deploy(
            manager.account(args.account),
            args.name,
            note=args.note,
            trial=verifying.make_trial(args),
            java=args.java,
            store_report=args.store_report,
            dry_run=args.dry_run,
            progress=progress,
            watcher=watcher(progress),
        )


class Resume(_Change):
    """Finish a deployment that was cut off, or put right what has drifted (storlet manager).

    Any manager may do so: all that it takes to know is in Swift. With nothing left unfinished,
    nodes that were down, or are new, get the account's current image.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--undo", action="store_true", help="don't go on, but put nodes back to what they had"
        )
        return parser

    def change(
        self, manager: "storlets.ImageManager", args: argparse.Namespace, progress: bars.Bars
    ) -> "deployer.Result":
        account = manager.account(args.account)
        return manager.deployer.resume(account, undo=args.undo, watcher=watcher(progress))


class Rollback(_Change):
    """Bring an earlier version back to all nodes (storlet manager)."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument(
            "--to",
            metavar="VERSION",
            type=int,
            help="as the history numbers it; default: the one before the current one",
        )
        parser.add_argument("--note", metavar="TEXT", default="", help="for the history")
        parser.add_argument(
            "--dry-run", action="store_true", help="only tell what every node would need"
        )
        return parser

    def change(
        self, manager: "storlets.ImageManager", args: argparse.Namespace, progress: bars.Bars
    ) -> "deployer.Result":
        return manager.deployer.rollback(
            manager.account(args.account),
            args.to,
            note=args.note,
            watcher=watcher(progress),
            dry_run=args.dry_run,
        )


def watcher(progress: bars.Bars) -> "Callable[[events.Event], None]":
    """Return what shows a deployment's events: bytes, nodes, and what failed on them."""

    def watch(event: "events.Event") -> None:
        if event.sent:
            progress(BYTES.get(event.step, event.step), event.sent, event.size or None)
        if event.error:
            progress.say(f"{event.node}: {event.error}")
        elif event.nodes:
            wave = f" {event.wave} of {event.waves}" if event.wave else ""
            progress.count(f"{NODES.get(event.step, event.step)}{wave}", event.done, event.nodes)

    return watch


def result(done: "deployer.Result") -> options.Row:
    """Return what a change has done, or would do, as a row."""
    version, plan = done.version, done.plan
    image_id = plan.image_id if plan else version and version.image_id
    wrong = {**plan.unready, **plan.down, **done.unfinished} if plan else done.unfinished
    return RESULT, (
        version and version.number,
        image_id,
        done.changed,
        len(plan.nodes) if plan else 0,
        plan.send if plan else 0,
        [f"{node}: {why}" for node, why in wrong.items()],
    )
