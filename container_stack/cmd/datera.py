# SPDX-License-Identifier: Apache-2.0
"""``container-stack datera``: a Datera store as Glance would find it, its images and orphans."""

import argparse
from typing import Any

from cliff import lister

from container_stack import exceptions
from container_stack.cmd import datera_checks, exit_code, store
from container_stack.host import abilities
from container_stack.imagestore import edf, inventory, journal

HOUR = 3600

Table = tuple[tuple[str, ...], list[tuple[Any, ...]]]


class _Lister(lister.Lister):
    """A command about one store."""

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = super().get_parser(prog_name)
        store.add_arguments(parser)
        return parser


class Check(exit_code.ExitCode, _Lister):
    """Look whether a store's array and this host are ready; run it as Glance's own user.

    Nothing is changed. Every lack comes with its cure. The exit code is 0 when the store can work
    as configured; warnings don't count.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        findings = list(datera_checks.findings(lambda: store.settings(parsed_args)))
        self.code = int(any(each.level == abilities.Level.FAILURE for each in findings))
        rows = [(each.subject, str(each.level), each.detail, each.fix) for each in findings]
        return ("Subject", "State", "Detail", "Fix"), rows


class ImageList(_Lister):
    """List the images on a store's array."""

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        rows = [
            (
                image.image_id,
                image.size,
                "unfinished" if image.size is None else "ready",
                ", ".join(image.clones),
            )
            for image in _inventory(parsed_args).images()
        ]
        return ("ID", "Size", "State", "Clones"), rows


class OrphanList(_Lister):
    """List unfinished images that nobody on this host is uploading.

    An orphan is certain when this host's journal shows that its upload died, and else possible:
    another host may be uploading it.
    """

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        rows = [_row(orphan) for orphan in _inventory(parsed_args).orphans()]
        return ("ID", "Host", "Hours", "Orphan"), rows


class OrphanReap(_Lister):
    """Remove from the array what dead uploads left.

    Uploads of this host that died are certain; the store removes them by itself, too, with its
    next start or upload. Those of other hosts are removed only with --older-than.
    """

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument("--dry-run", action="store_true", help="only tell what would be done")
        parser.add_argument(
            "--older-than",
            metavar="HOURS",
            type=_hours,
            help="remove possible orphans, too, whose upload began so long ago; give more than "
            "any upload takes",
        )
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> Table:
        images = _inventory(parsed_args)
        rows = []
        for orphan in images.orphans():
            result = "kept"
            if orphan.dead or _is_older(orphan, parsed_args.older_than):
                result = "would be removed" if parsed_args.dry_run else _reap(images, orphan)
            rows.append((*_row(orphan), result))
        return ("ID", "Host", "Hours", "Orphan", "Result"), rows


def _inventory(args: argparse.Namespace) -> inventory.Inventory:
    settings = store.settings(args)
    endpoint = settings.endpoint
    records = journal.Journal(settings.state_dir, endpoint.url, endpoint.tenant_path)
    return inventory.Inventory(edf.Client(endpoint), records)


def _row(orphan: inventory.Orphan) -> tuple[Any, ...]:
    hours = None if orphan.age is None else round(orphan.age / HOUR, 1)
    return orphan.image_id, orphan.host, hours, "certain" if orphan.dead else "possible"


def _is_older(orphan: inventory.Orphan, hours: float | None) -> bool:
    return hours is not None and orphan.age is not None and orphan.age > hours * HOUR


def _reap(images: inventory.Inventory, orphan: inventory.Orphan) -> str:
    try:
        images.remove_orphan(orphan.image_id)
    except exceptions.NotFound:
        return "removed by somebody else"
    except (exceptions.Busy, exceptions.InvalidRequest) as exc:
        return f"kept: {exc}"
    return "removed"


def _hours(text: str) -> float:
    hours = float(text)
    if not 0 <= hours < float("inf"):
        raise ValueError
    return hours
