# SPDX-License-Identifier: Apache-2.0
"""What a back end has on the host and the engine, seen without container-stack's own eyes."""

import contextlib
import ipaddress
import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import docker
import docker.errors

from . import account


@contextlib.contextmanager
def engine() -> Iterator[docker.DockerClient]:
    """Connect to the engine."""
    try:
        client = docker.DockerClient(account.ENGINE, timeout=30)
    except docker.errors.DockerException:
        raise AssertionError(f"No engine at {account.ENGINE}: start dockerd.") from None
    try:
        yield client
    finally:
        client.close()


def unused_subnet() -> ipaddress.IPv4Network:
    """Return a private /24 that neither the engine nor the host's routes know."""
    taken = [*_engine_subnets(), *_routes()]
    for third in range(os.getpid() % 200, os.getpid() % 200 + 50):
        subnet = ipaddress.IPv4Network(f"10.254.{third}.0/24")
        if not any(subnet.overlaps(other) for other in taken):
            return subnet
    raise AssertionError(f"No /24 of 10.254.0.0/16 is free: {taken}")


def containers(owner: str, **labels: str) -> list[dict[str, Any]]:
    """Return the engine's words on an owner's containers, the stopped ones too."""
    wanted = [f"container_stack.owner={owner}"]
    wanted += [f"container_stack.{name}={value}" for name, value in labels.items()]
    with engine() as client:
        found = client.containers.list(all=True, filters={"label": wanted}, ignore_removed=True)
        return [each.attrs for each in found]


def addresses(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the network interfaces that a running container has, as ``ip -json`` says them."""
    return _ip_in(container, "address")


def routes(container: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the routes that a running container has."""
    return _ip_in(container, "route")


def visible_in(container: Mapping[str, Any]) -> str:
    """Return the names of all files and the mounts that a running container sees, as text."""
    root = f"/proc/{container['State']['Pid']}/root"
    names = [path for path, _folders, _files in os.walk(f"{root}/shares")]
    return "\n".join([*names, Path(f"/proc/{container['State']['Pid']}/mountinfo").read_text()])


def left(owner: str, subnet: ipaddress.IPv4Network, directory: Path) -> list[str]:
    """Return all that is left of a back end whose last share and server are gone."""
    found = [f"container {each['Name']}" for each in containers(owner)]
    label = _label(owner)
    with engine() as client:
        found += [f"volume {each.name}" for each in client.volumes.list(filters=label)]
        found += [f"network {each.name}" for each in client.networks.list(filters=label)]
    found += [f"engine's subnet {each}" for each in _engine_subnets() if subnet.overlaps(each)]
    # The tree of mount points is a mount of its own, which stays for the next start.
    tree = [str(directory / "mounts")]
    found += [f"mount {each}" for each in mounts(directory) if each not in tree]
    found += [f"loop device of {each}" for each in loop_devices(directory).values()]
    found += [f"file {each}" for each in _files(directory / "volumes")]
    return found


def mounts(directory: Path) -> list[str]:
    """Return the mount points below a directory, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4] for line in lines]
    return sorted((each for each in points if each.startswith(f"{directory}/")), reverse=True)


def loop_devices(directory: Path) -> dict[str, str]:
    """Return the loop devices whose files are below a directory, with those files."""
    found = {}
    for path in Path("/sys/block").glob("loop*/loop/backing_file"):
        with contextlib.suppress(OSError):
            name = path.read_text().strip()
            if name.startswith(f"{directory}/"):
                found[f"/dev/{path.parts[3]}"] = name
    return found


def sweep(owner: str, directory: Path) -> None:
    """Remove by force what failed tests left, so that they spoil nothing but themselves."""
    label = _label(owner)
    with engine() as client:
        for container in client.containers.list(all=True, filters=label, ignore_removed=True):
            container.remove(force=True, v=True)
        for network in client.networks.list(filters=label):
            network.remove()
        for volume in client.volumes.list(filters=label):
            volume.remove()
    for point in mounts(directory):
        subprocess.run(["umount", point], check=False)
    for device in loop_devices(directory):
        subprocess.run(["losetup", "--detach", device], check=False)


def _label(owner: str) -> dict[str, str | list[str] | bool]:
    return {"label": f"container_stack.owner={owner}"}


def _engine_subnets() -> list[ipaddress.IPv4Network]:
    found = []
    with engine() as client:
        for network in client.networks.list():
            for config in (network.attrs["IPAM"] or {}).get("Config") or []:
                with contextlib.suppress(ValueError):
                    found.append(ipaddress.IPv4Network(config["Subnet"]))
    return found


def _routes() -> list[ipaddress.IPv4Network]:
    found = []
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        address, mask = (int.from_bytes(bytes.fromhex(fields[i]), "little") for i in (1, 7))
        if mask:
            found.append(ipaddress.IPv4Network((address, bin(mask).count("1"))))
    return found


def _ip_in(container: Mapping[str, Any], what: str) -> list[dict[str, Any]]:
    namespace = f"--net=/proc/{container['State']['Pid']}/ns/net"
    argv = ["nsenter", namespace, "ip", "-json", what, "show"]
    answer = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    found: list[dict[str, Any]] = json.loads(answer)
    return found


def _files(directory: Path) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())
