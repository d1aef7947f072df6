# SPDX-License-Identifier: Apache-2.0
"""``osd <driver> ...``: the commands about volumes that the original hasn't."""

import argparse
from typing import Any

from container_stack.cmd.osd import arguments, output, volumes

_STATES = (
    (32, "error"),
    (16, "detaching"),
    (4, "attached"),
    (8, "detached"),
    (2, "available"),
    (1, "pending"),
    (64, "deleted"),
)


def _add_list(parser: argparse.ArgumentParser) -> None:
    arguments.add_labels(parser)
    arguments.flag(parser, "quiet", "q", action="store_true", help="ids only")


def list_(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print volumes as a table."""
    found = context.client.volumes(volumes.VOLUMES, volumes.query(args))
    if args.quiet:
        context.printer.ids(*(each["ID"] for each in found))
        return
    columns = ("NAME", "ID", "SIZE", "USED", "FORMAT", "STATE", "ON", "AT")
    context.printer.table(columns, [_row(each, context.printer.json) for each in found])


def _row(volume: dict[str, Any], plain: bool) -> tuple[object, ...]:
    sizes = [int(volume["Spec"]["Size"]), int(volume["Usage"])]
    return (
        volumes.name_of(volume),
        volume["ID"],
        *(sizes if plain else map(output.size, sizes)),
        volume["Format"],
        _state(volume),
        volume["AttachedOn"],
        volume["AttachPath"],
    )


def _state(volume: dict[str, Any]) -> str:
    bits = int(volume["State"])
    word = next((word for bit, word in _STATES if bits & bit), "unknown")
    if volume["AttachPath"] and word != "error":
        word = "mounted"
    return f"{word}, snapshot" if (volume["Source"] or {}).get("Parent") else word


def _add_grow(parser: argparse.ArgumentParser) -> None:
    volumes.add_volume(parser)
    arguments.flag(
        parser, "size", "s", type=arguments.size, default=None, help="MiB, or 500M, 20G, 1T"
    )


def grow(context: arguments.Context, args: argparse.Namespace) -> None:
    """Make a volume larger, mounted or not."""
    volume_id = volumes.one(context, "grow", args.volume)
    if args.size is None:
        raise output.missing("grow", "size", "The size that it is to have")
    volumes.act(context, volume_id, spec={"Size": args.size})
    context.printer.ids(volume_id)


def _add_restore(parser: argparse.ArgumentParser) -> None:
    volumes.add_volume(parser)
    arguments.flag(parser, "snapshot", default="", metavar="SNAPSHOT", help="its id or name")


def restore(context: arguments.Context, args: argparse.Namespace) -> None:
    """Give a volume its snapshot's content."""
    volume_id = volumes.one(context, "restore", args.volume)
    if not args.snapshot:
        raise output.missing("restore", "snapshot", "What to go back to")
    snapshot_id = volumes.to_id(context, args.snapshot)
    context.client.done(
        "POST", f"{volumes.SNAPSHOTS}/restore/{volume_id}", query=[("SnapID", snapshot_id)]
    )
    context.printer.ids(volume_id)


def _add_label(parser: argparse.ArgumentParser) -> None:
    volumes.add_volume(parser)
    arguments.add_labels(parser)
    arguments.flag(parser, "remove", default="", metavar="NAME,...", help="labels to take away")


def label(context: arguments.Context, args: argparse.Namespace) -> None:
    """Set and remove labels."""
    volume_id = volumes.one(context, "label", args.volume)
    wanted: dict[str, str | None] = {**arguments.labels(args.label)}
    wanted.update(dict.fromkeys(filter(None, args.remove.split(","))))
    if not wanted:
        raise output.missing("label", "label", "Labels to set or to remove")
    volumes.act(context, volume_id, locator={"VolumeLabels": wanted})
    context.printer.ids(volume_id)


def _add_schedule(parser: argparse.ArgumentParser) -> None:
    volumes.add_volume(parser)
    arguments.flag(
        parser, "snap_interval", "si", type=int, default=None, help="minutes, or 0 for none"
    )
    arguments.flag(parser, "keep", type=int, default=5, help="snapshots that are kept")


def schedule(context: arguments.Context, args: argparse.Namespace) -> None:
    """Have snapshots made regularly."""
    volume_id = volumes.one(context, "schedule", args.volume)
    if args.snap_interval is None:
        raise output.missing("schedule", "snap_interval", "Minutes between snapshots")
    spec = {"SnapshotInterval": args.snap_interval, "SnapshotKeep": args.keep}
    volumes.act(context, volume_id, spec=spec)
    context.printer.ids(volume_id)


def usage(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print the bytes that a volume's data take, and may take."""
    volume_id = volumes.one(context, "usage", args.volume)
    found = context.client.done("GET", f"{volumes.VOLUMES}/usage/{volume_id}")
    used, limit = int(found["used"]), int(found["limit"])
    if context.printer.json:
        context.printer.result({"used": used, "limit": limit})
    else:
        context.printer.write(f"{output.size(used)} of {output.size(limit) if limit else 'any'}")


_Command = arguments.Command
COMMANDS = (
    _Command("list", "show volumes as a table", list_, _add_list, ("ls", "l")),
    _Command("grow", "make a volume larger, mounted or not", grow, _add_grow, ("resize",)),
    _Command("restore", "give a volume its snapshot's content", restore, _add_restore),
    _Command("label", "set and remove labels", label, _add_label),
    _Command("schedule", "have snapshots made regularly", schedule, _add_schedule),
    _Command("usage", "show the bytes that a volume's data take", usage, volumes.add_volume),
)
