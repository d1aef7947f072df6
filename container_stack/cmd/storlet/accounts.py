# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet enable``, ``publish`` and ``list``: accounts and their images."""

import argparse
import datetime

from cliff import lister, show

from container_stack.cmd.storlet import bars, opening, options
from container_stack.storlets.store import accounts


class Enable(lister.Lister):
    """Make an account ready for storlets and images of its own (who may change the account).

    That is the account's own administrator, or the provider's for --account. Containers are made,
    managers are let into docker_images and its segments, and the account is marked. ACLs that are
    there stay. Run again it changes nothing.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--manager",
            metavar="PROJECT:USER",
            action="append",
            required=True,
            help="who may read and write images there, as ACLs name him, with Keystone by IDs: the "
            "storlet manager; again for an account manager who isn't its administrator",
        )
        parser.add_argument("--dry-run", action="store_true", help="only tell what would change")
        options.add_all(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        done = manager.enable(account, parsed_args.manager, dry_run=parsed_args.dry_run)
        return ("What", "Becomes"), [(each.what, each.to) for each in done]


class Disable(lister.Lister):
    """Let an account run no storlets any more (who may change the account).

    With --account, managers whom `enable` let in are shut out again. Containers and images stay.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("--dry-run", action="store_true", help="only tell what would change")
        options.add_all(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        done = manager.disable(account, dry_run=parsed_args.dry_run)
        return ("What", "Becomes"), [(each.what, each.to) for each in done]


class Publish(show.ShowOne):
    """Put the base image into an account, for its manager to build on (storlet manager).

    It comes from the engine, by the name that base_image says, and is stored as base_object.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument(
            "--dry-run", action="store_true", help="only tell whether it would be sent"
        )
        options.add_all(parser, required=True)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        with bars.Bars(self.app.stderr) as progress:
            image_id, sent = manager.images.publish(
                account, dry_run=parsed_args.dry_run, progress=progress
            )
        values = manager.settings
        return ("Account", "Object", "Image", "Image-Name", "Sent"), (
            account.name,
            values.base_object,
            image_id,
            values.base_image,
            sent,
        )


class List(lister.Lister):
    """List the images in an account's docker_images (both roles)."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_all(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Table:
        manager = opening.manager(parsed_args)
        store = manager.images.of(manager.account(parsed_args.account))
        rows = [
            (each.object.name, each.name, each.object.size, when(each.object.modified), each.sha256)
            for each in accounts.images(store)
        ]
        return ("Object", "Image-Name", "Size", "Modified", "SHA-256"), rows


class Show(show.ShowOne):
    """Show an image's object with its metadata; Image-Name is what to build FROM (both roles)."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the image's object in docker_images")
        options.add_all(parser)
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        found = accounts.image(manager.images.of(account), parsed_args.name).object
        meta = {key.title(): value for key, value in sorted(found.metadata.items())}
        row = {
            "Account": account.name,
            "Object": found.name,
            "Size": found.size,
            "Modified": when(found.modified),
            "Etag": found.etag,
            "Segmented": found.segmented,
            **meta,
        }
        return tuple(row), tuple(row.values())


def when(seconds: float) -> str:
    """Return a time as text, in UTC."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
