# SPDX-License-Identifier: Apache-2.0
"""``osd <driver> ...``: the commands about volumes that the original has."""

import argparse
import json
import re
from typing import Any

from container_stack import exceptions
from container_stack.cmd.osd import arguments, output

VOLUMES, SNAPSHOTS = "/v1/volumes", "/v1/snapshot"
#: What a PUT says of each of format, attach and mount.
IGNORE, OFF, ON = 0, 1, 2

_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


def _add_create(parser: argparse.ArgumentParser) -> None:
    flag = arguments.flag
    parser.add_argument("name", nargs="*")
    arguments.add_labels(parser)
    flag(parser, "size", "s", type=arguments.size, default="1000", help="MiB, or 500M, 20G, 1T")
    flag(parser, "fs", default="", help="file system, such as ext4 or xfs; default: the driver's")
    flag(parser, "seed", default="", help="where data to begin with come from; noted only")
    flag(parser, "block_size", "b", type=int, default=32, help="KiB of a block")
    flag(parser, "repl", "r", type=int, default=1, help="copies that the driver keeps")
    flag(parser, "cos", type=int, default=1, help="class of service, 1 to 9")
    flag(parser, "snap_interval", "si", type=int, default=0, help="minutes between snapshots, or 0")
    flag(parser, "from", default="", metavar="VOLUME", help="volume or snapshot to clone")


def create(context: arguments.Context, args: argparse.Namespace) -> None:
    """Make a volume, and print its id."""
    if len(args.name) != 1:
        raise output.missing("create", "name")
    parent = getattr(args, "from")
    body = {
        "locator": {"Name": args.name[0], "VolumeLabels": arguments.labels(args.label) or None},
        "source": {"Parent": to_id(context, parent) if parent else "", "Seed": args.seed},
        "spec": {
            "Ephemeral": False,
            "Size": args.size,
            "Format": args.fs,
            "BlockSize": args.block_size * 1024,
            "HALevel": args.repl,
            "Cos": args.cos,
            "Dedupe": False,
            "SnapshotInterval": args.snap_interval,
            "ConfigLabels": None,
        },
    }
    context.printer.ids(str(context.client.done("POST", VOLUMES, body).get("id")))


def _add_path(parser: argparse.ArgumentParser) -> None:
    add_volume(parser)
    arguments.flag(parser, "path", default="", help="where; default: the daemon's own place")


def mount(context: arguments.Context, args: argparse.Namespace) -> None:
    """Mount a volume; without a path, print the one that the daemon chose."""
    volume_id = one(context, "mount", args.volume)
    answer = act(context, volume_id, mount=ON, mount_path=args.path)
    if args.path:
        context.printer.ids(volume_id)
    else:
        found = answer.get("mount_path") or inspected(context, volume_id).get("AttachPath")
        context.printer.path(str(found))


def unmount(context: arguments.Context, args: argparse.Namespace) -> None:
    """Unmount a volume."""
    volume_id = one(context, "unmount", args.volume)
    act(context, volume_id, mount=OFF, mount_path=args.path)
    context.printer.ids(volume_id)


def attach(context: arguments.Context, args: argparse.Namespace) -> None:
    """Attach a volume, and print its device."""
    volume_id = one(context, "attach", args.volume)
    context.printer.result(act(context, volume_id, attach=ON).get("device_path"))


def detach(context: arguments.Context, args: argparse.Namespace) -> None:
    """Detach a volume."""
    volume_id = one(context, "detach", args.volume)
    act(context, volume_id, attach=OFF)
    context.printer.ids(volume_id)


def format_(context: arguments.Context, args: argparse.Namespace) -> None:
    """Make the file system that the volume was created for."""
    volume_id = one(context, "format", args.volume)
    act(context, volume_id, format=ON)
    context.printer.ids(volume_id)


def delete(context: arguments.Context, args: argparse.Namespace) -> None:
    """Delete a volume or snapshot."""
    volume_id = one(context, "delete", args.volume)
    context.client.done("DELETE", f"{VOLUMES}/{volume_id}")
    context.printer.ids(volume_id)


def _add_enumerate(parser: argparse.ArgumentParser) -> None:
    arguments.flag(parser, "name", default="", help="the volume's name")
    arguments.add_labels(parser)


def enumerate_(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print volumes as the REST API has them."""
    context.printer.found(context.client.volumes(VOLUMES, query(args)))


def inspect(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print some volumes as the REST API has them; fail if one isn't there."""
    if not args.volume:
        raise output.missing("inspect", "volumeID")
    ids = [to_id(context, each) for each in args.volume]
    found = context.client.volumes(VOLUMES, [("VolumeID", each) for each in ids])
    context.printer.found(found)
    if len(found) < len(set(ids)):
        raise exceptions.NotFound("Volume does not exist.")


def stats(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print what the volume's device did."""
    _found(context, "stats", args)


def alerts(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print the volume's alerts."""
    _found(context, "alerts", args)


def _found(context: arguments.Context, what: str, args: argparse.Namespace) -> None:
    volume_id = one(context, what, args.volume)
    context.printer.found(context.client.call("GET", f"{VOLUMES}/{what}/{volume_id}"))


def _add_snap(parser: argparse.ArgumentParser) -> None:
    add_volume(parser)
    arguments.flag(parser, "name", default="", help="the snapshot's name")
    arguments.add_labels(parser)
    arguments.flag(parser, "readonly", action="store_true", help="nobody can write to it")


def snap(context: arguments.Context, args: argparse.Namespace) -> None:
    """Make a snapshot, and print its id."""
    volume_id = one(context, "snapCreate", args.volume)
    body = {
        "id": volume_id,
        "locator": {"Name": args.name, "VolumeLabels": arguments.labels(args.label) or None},
        "readonly": args.readonly,
    }
    context.printer.ids(str(context.client.done("POST", SNAPSHOTS, body).get("id")))


def _add_snap_enumerate(parser: argparse.ArgumentParser) -> None:
    add_volume(parser)
    arguments.flag(parser, "name", "n", default="", help="the snapshot's name")
    arguments.add_labels(parser)


def snap_enumerate(context: arguments.Context, args: argparse.Namespace) -> None:
    """Print snapshots, of some volumes or all, as the REST API has them."""
    pairs = [("VolumeID", to_id(context, each)) for each in args.volume]
    wanted = arguments.labels(args.label)
    if wanted:
        pairs.append(("ConfigLabel", _packed(wanted)))
    found = context.client.volumes(SNAPSHOTS, pairs)
    context.printer.found([each for each in found if args.name in ("", name_of(each))])


def add_volume(parser: argparse.ArgumentParser) -> None:
    """Let a command take volumes."""
    parser.add_argument("volume", nargs="*", help="the volume's id or name")


def one(context: arguments.Context, command: str, words: list[str]) -> str:
    """Return the id of the one volume that a command was told."""
    if len(words) != 1:
        raise output.missing(command, "volumeID")
    return to_id(context, words[0])


def to_id(context: arguments.Context, text: str) -> str:
    """Return the id of a volume that is called by its id or name.

    :raises NotFound: there is none of the name.
    """
    if _ID.fullmatch(text):
        return text
    found = context.client.volumes(VOLUMES, [("Name", text)])
    if not found:
        raise exceptions.NotFound("Volume does not exist.")
    return str(found[0].get("ID") or found[0].get("id"))


def inspected(context: arguments.Context, volume_id: str) -> dict[str, Any]:
    """Return one volume."""
    found = context.client.volumes(VOLUMES, [("VolumeID", volume_id)])
    return found[0] if found else {}


def name_of(volume: dict[str, Any]) -> str:
    """Return the name in an answer."""
    return str((volume.get("Locator") or {}).get("Name", ""))


def act(context: arguments.Context, volume_id: str, **wanted: Any) -> dict[str, Any]:
    """Format, attach or mount a volume, or the opposite."""
    body = {
        "format": IGNORE,
        "attach": IGNORE,
        "mount": IGNORE,
        "mount_path": "",
        "device_path": "",
        **wanted,
    }
    return context.client.done("PUT", f"{VOLUMES}/{volume_id}", body)


def query(args: argparse.Namespace) -> list[tuple[str, str]]:
    """Return what a list is asked for by its arguments: a name, labels, or neither."""
    name = getattr(args, "name", "")
    pairs = [("Name", name)] if name else []
    wanted = arguments.labels(args.label)
    return [*pairs, ("Label", _packed(wanted))] if wanted else pairs


def _packed(wanted: dict[str, str]) -> str:
    return json.dumps(wanted, separators=(",", ":"))


_Command = arguments.Command
COMMANDS = (
    _Command("create", "make a volume", create, _add_create, ("c",)),
    _Command("mount", "mount a volume", mount, _add_path, ("m",)),
    _Command("unmount", "unmount a volume", unmount, _add_path, ("u",)),
    _Command("delete", "delete a volume or snapshot", delete, add_volume, ("rm", "snapDelete")),
    _Command("enumerate", "show volumes, as JSON", enumerate_, _add_enumerate, ("e",)),
    _Command("inspect", "show some volumes, as JSON", inspect, add_volume, ("i", "snapInspect")),
    _Command("stats", "show what a volume's device did", stats, add_volume),
    _Command("alerts", "show a volume's alerts", alerts, add_volume),
    _Command("snap", "snapshot a volume", snap, _add_snap, ("sc",), "snapCreate"),
    _Command(
        "snapEnumerate",
        "show snapshots, as JSON",
        snap_enumerate,
        _add_snap_enumerate,
        ("se",),
        "snap enumerate",
    ),
    _Command("format", "make a block volume's file system", format_, add_volume, ("f",)),
    _Command("attach", "make a block volume a device of this host", attach, _add_path, ("a",)),
    _Command("detach", "take a block volume's device away", detach, add_volume, ("d",)),
)
