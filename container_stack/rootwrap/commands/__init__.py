# SPDX-License-Identifier: Apache-2.0
"""Every privileged command, each as ONE template.

From a template come the argv, its validation and the line in the shipped ``.filters`` file, so
the three can't disagree. A template reads like the command line; ``{name:kind}`` stands for one
value whose shape is given by :data:`KINDS`::

    DETACH = Command("loop_detach", "losetup --detach {device:loop}")
    DETACH.argv(STATE_DIR, device="/dev/loop3")  # ('losetup', '--detach', '/dev/loop3')

There is no shell here, and no docker, rm, cat, dd or tee: a command that can do anything to any
file is root by another name.

oslo.rootwrap splits a filter at commas, drops every line whose regular expression is broken, and
lets ``$`` match before a final newline. So patterns hold no comma (a literal one is written
``\\x2c``), are anchored with ``\\Z``, use ASCII classes only, and group every alternative.
"""

from collections.abc import Mapping

from container_stack.rootwrap.commands import (
    btrfs,
    copies,
    disks,
    fs,
    limits,
    loop,
    lvm,
    networks,
    nfs,
    ports,
    programs,
)
from container_stack.rootwrap.commands.kinds import KINDS
from container_stack.rootwrap.commands.template import (
    SCRIPTS,
    STATE_DIR,
    STATE_DIRS,
    Command,
)

__all__ = [
    "DRIVERS",
    "KINDS",
    "SCRIPTS",
    "STATE_DIR",
    "STATE_DIRS",
    "Command",
    "btrfs",
    "copies",
    "disks",
    "filters",
    "fs",
    "limits",
    "loop",
    "lvm",
    "networks",
    "nfs",
    "ports",
    "programs",
]

DRIVERS: Mapping[str, tuple[Command, ...]] = {
    "glance": programs.ATTACH,
    "manila": (*loop.ALL, *fs.SHARES, *lvm.ALL, *networks.ALL, *limits.ALL, *copies.ALL),
    "nova": (*ports.ALL, *disks.ALL, disks.MOUNT_ROOT),
    "osd": (*loop.ALL, *fs.VOLUMES, *lvm.ALL, *btrfs.ALL, *nfs.ALL, *fs.EBS, programs.OSD_FENCE),
}


def filters(driver: str, state_dir: str | None = None, scripts: str = SCRIPTS) -> str:
    """Return the text of a driver's filters file.

    :param state_dir: None for the driver's own, if an operator says nothing else.
    :param scripts: the directory with this package's console scripts.
    """
    state_dir = state_dir or STATE_DIRS.get(driver, STATE_DIR)
    lines = "\n".join(command.filter(state_dir, scripts) for command in DRIVERS[driver])
    return (
        f"# What the {driver} driver of container-stack may run as root.\n"
        f"# Made by `container-stack rootwrap filters {driver} --state-dir {state_dir}`;\n"
        "# made again, not edited.\n"
        f"[Filters]\n{lines}\n"
    )
