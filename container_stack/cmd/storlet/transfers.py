# SPDX-License-Identifier: Apache-2.0
"""``container-stack storlet download``, ``upload`` and ``inspect``: images in Swift."""

import argparse
import os
from typing import TYPE_CHECKING, Any

from cliff import columns, show

from container_stack.cmd.storlet import bars, opening, options
from container_stack.storlets.store import accounts

if TYPE_CHECKING:
    from container_stack.storlets.store import inspection


class Layers(columns.FormattableColumn):  # type: ignore[type-arg]
    """The layers of an image."""

    _value: "inspection.Inspection"

    def human_readable(self) -> str:
        """Return a line for each."""
        return "\n".join(
            f"{each['diff_id'].removeprefix('sha256:')[:12]} {each['size']:>12}"
            f"{' base' if each['base'] else ''}"
            for each in self.machine_readable()
        )

    def machine_readable(self) -> list[dict[str, Any]]:
        """Return each with its digest, its bytes, and whether it is the base's."""
        return [
            {"diff_id": each.diff_id, "size": each.size, "base": number < self._value.shared}
            for number, each in enumerate(self._value.layers)
        ]


class _Transfer(show.ShowOne):
    """A command about one object."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        options.add_all(parser)
        return parser


class Download(_Transfer):
    """Download an image, such as the base (both roles).

    A download that was cut off goes on where it stopped. The file appears when all of it has
    arrived and its digest is right.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the image's object in docker_images")
        parser.add_argument(
            "--output", "-o", metavar="FILE", help="default: NAME in this directory"
        )
        parser.add_argument(
            "--load",
            action="store_true",
            help="bring it into the engine, too, by the name that its metadata Image-Name gives",
        )
        parser.add_argument("--tag", metavar="NAME", help="with --load, another name")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        path = parsed_args.output or os.path.basename(parsed_args.name)
        loaded = None
        with bars.Bars(self.app.stderr) as progress:
            done = manager.images.download(account, parsed_args.name, path, progress)
            if parsed_args.load or parsed_args.tag:
                name = parsed_args.tag or done.object.metadata.get(accounts.IMAGE_NAME)
                loaded = manager.bench.load(path, name or manager.settings.base_image, progress)
        return ("File", "Size", "Received", "SHA-256", "Image", "Tags"), (
            path,
            done.object.size,
            done.moved,
            done.sha256,
            loaded and loaded.id,
            loaded and list(loaded.tags),
        )


class Upload(_Transfer):
    """Upload an image for the storlet manager to deploy (account manager).

    An archive that is larger than a segment is stored in segments. An upload that was cut off
    goes on where it stopped. Until all is there, the object is as it was.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("file", metavar="FILE", help="archive of the image")
        parser.add_argument("--name", metavar="NAME", help="of the object; default: FILE's")
        parser.add_argument(
            "--image-name", metavar="NAME", help="what people call the image, as metadata"
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="only look whether it is an image"
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        manager = opening.manager(parsed_args)
        account = manager.account(parsed_args.account)
        name = parsed_args.name or os.path.basename(parsed_args.file)
        image_id = manager.images.check_archive(parsed_args.file)
        metadata = {accounts.IMAGE_NAME: parsed_args.image_name} if parsed_args.image_name else {}
        columns_ = ("Object", "Size", "Sent", "SHA-256", "Segmented", "Image")
        if parsed_args.dry_run:
            return columns_, (name, os.path.getsize(parsed_args.file), 0, None, None, image_id)
        with bars.Bars(self.app.stderr) as progress:
            done = manager.images.upload(account, parsed_args.file, name, metadata, progress)
        found = done.object
        return columns_, (name, found.size, done.moved, done.sha256, found.segmented, image_id)


class Inspect(_Transfer):
    """Tell what an uploaded image is, without downloading it (both roles).

    Only headers are read, by Range requests; digests are checked by `verify`.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("name", metavar="NAME", help="the image's object in docker_images")
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> options.Row:
        manager = opening.manager(parsed_args)
        found = manager.images.inspect(manager.account(parsed_args.account), parsed_args.name)
        return (
            "Image",
            "Platform",
            "Over base",
            "Layers",
            "Entrypoint",
            "Command",
            "Claims",
            "Size",
            "Bytes fetched",
            "Requests",
        ), (
            found.image_id,
            found.platform,
            found.over_base,
            Layers(found),
            list(found.entrypoint),
            list(found.command),
            list(found.names),
            found.size,
            found.fetched,
            found.requests,
        )
