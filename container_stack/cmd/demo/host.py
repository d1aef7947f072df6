# SPDX-License-Identifier: Apache-2.0
"""What the demo needs of this host: a subnet that nobody uses, files, and a look for leftovers."""

import ipaddress
import os
import random
import shlex
import socket
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TextIO

from container_stack import exceptions
from container_stack.cmd import image as image_commands
from container_stack.host import containers, images, mounts
from container_stack.shares import image as share_image

#: Packages of Python's own library that make a tree worth copying.
LIBRARY = ("asyncio", "email", "encodings", "http", "importlib", "json", "logging", "xml")
FILES = 200


def ensure_image(known: images.Images, reference: str, stream: TextIO) -> bool:
    """Build the share servers' image unless it is there; tell whether that was needed."""
    if known.find(reference) is not None:
        return False
    share_image.build(known, reference=reference, progress=image_commands.progress(stream))
    return True


def root_helper(config_file: Path) -> str:
    """Return the command that starts the rootwrap daemon of this very Python."""
    daemon = [sys.executable, "-m", "container_stack.rootwrap.cmd", str(config_file)]
    return shlex.join(daemon if os.geteuid() == 0 else ["sudo", "-n", *daemon])


def free_subnet(engine: containers.Engine) -> ipaddress.IPv4Network:
    """Return a 10.x.y.0/24 that no route of this host and no network of the engine's overlaps.

    :raises HostNotReady: all of 10.0.0.0/8 is taken.
    """
    used = [*_routes(), *_networks(engine)]
    free = [
        subnet
        for subnet in ipaddress.IPv4Network("10.0.0.0/8").subnets(new_prefix=16)
        if not any(subnet.overlaps(other) for other in used)
    ]
    if not free:
        raise exceptions.HostNotReady("Every part of 10.0.0.0/8 is routed or used on this host.")
    # At random, so that two demos at once rarely choose the same.
    chooser = random.SystemRandom()
    return chooser.choice(list(chooser.choice(free).subnets(new_prefix=24)))


def _routes() -> Iterator[ipaddress.IPv4Network]:
    """Yield the destinations in proc(5) net/route, the default route aside."""
    for line in Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        address, mask = (socket.inet_ntoa(struct.pack("=L", int(fields[i], 16))) for i in (1, 7))
        network = ipaddress.IPv4Network(f"{address}/{mask}")
        if network.prefixlen:
            yield network


def _networks(engine: containers.Engine) -> Iterator[ipaddress.IPv4Network]:
    for network in engine.list_networks():
        for subnet in network.subnets:
            parsed = ipaddress.ip_network(subnet.cidr)
            if isinstance(parsed, ipaddress.IPv4Network):
                yield parsed


def tree() -> dict[str, Path]:
    """Return some two hundred real files, by the names that they get in a share."""
    library = Path(os.__file__).parent
    files = [path for name in LIBRARY for path in sorted((library / name).rglob("*.py"))]
    return {f"library/{path.relative_to(library)}": path for path in files[:FILES]}


def leftovers(engine: containers.Engine, owner: str, state_dir: str, subnet: str) -> list[str]:
    """Return what is still there of a back end: nothing, if all was deleted."""
    labels = {"container_stack.owner": owner}
    found = [f"container {each.name}" for each in engine.list(labels)]
    found += [f"volume {each.name}" for each in engine.list_volumes(labels)]
    found += [
        f"network {each.name}"
        for each in engine.list_networks()
        if any(each_subnet.cidr == subnet for each_subnet in each.subnets)
    ]
    return [*found, *kept_open(state_dir), *(f"file {path}" for path in _files(state_dir))]


def kept_open(state_dir: str) -> list[str]:
    """Return what the kernel still has of a directory's files."""
    found = [f"mount {each.path}" for each in mounts.below(state_dir)]
    return found + [f"loop device {name}" for name in _loop_devices(mounts.resolve(state_dir))]


def _loop_devices(state_dir: str) -> Iterator[str]:
    for record in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            backing = record.read_text(encoding="utf-8").strip()
        except OSError:  # detached meanwhile
            continue
        if backing.startswith(f"{state_dir}/"):
            yield record.parts[-3]


def _files(state_dir: str) -> Iterable[str]:
    for directory, _, names in os.walk(state_dir):
        for name in names:
            yield os.path.join(directory, name)
