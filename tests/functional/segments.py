# SPDX-License-Identifier: Apache-2.0
"""Network segments for tests: subnets that are free, and whether a packet gets through."""

import itertools
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence

CONNECT = """
import socket, sys
address, port = sys.argv[1], int(sys.argv[2])
with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
    client.settimeout(1)
    try:
        client.connect((address, port))
    except ConnectionRefusedError:
        pass  # somebody is there to refuse
"""

_numbers = itertools.count(random.randrange(256 * 16))


def subnets() -> tuple[str, str]:
    """Return an IPv4 and an IPv6 subnet that no other test of this run has."""
    number = next(_numbers)
    return f"10.{224 + number // 256 % 16}.{number % 256}.0/24", f"fd5c:57:{number:x}::/64"


def host(subnet: str, number: int) -> str:
    """Return an address in a subnet of :func:`subnets`."""
    base = subnet.partition("/")[0]
    return f"{base}{number}" if ":" in base else base.removesuffix("0") + str(number)


def reaches(address: str, *, inside: str | None = None, port: int = 445) -> bool:
    """Tell whether TCP gets from a network namespace, or from this one, to an address and back."""
    enter = ["nsenter", f"--net={inside}"] if inside else []
    argv = [*enter, sys.executable, "-c", CONNECT, address, str(port)]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def soon_reaches(address: str, *, seconds: float = 10.0) -> bool:
    """Tell whether TCP gets there from this host; a new IPv6 address may take two seconds."""
    deadline = time.monotonic() + seconds
    while not reaches(address):
        if time.monotonic() > deadline:
            return False
    return True


def forwards() -> bool:
    """Tell whether this host forwards IPv4 that no rule speaks of.

    The engine sets this policy to DROP when it turns forwarding on, and leaves it where forwarding
    was on before.
    """
    policy = subprocess.run(
        ["iptables", "--wait", "-S", "FORWARD"], check=True, capture_output=True, text=True
    )
    return policy.stdout.startswith("-P FORWARD ACCEPT")


def ip(*words: str, inside: str | None = None) -> str:
    """Run ``ip``, and return what it says."""
    enter = ["nsenter", f"--net={inside}"] if inside else []
    done = subprocess.run([*enter, "ip", *words], check=True, capture_output=True, text=True)
    return done.stdout


class Outside:
    """A machine that is not this one: a network namespace, routed through this host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inside = f"/run/netns/{name}"
        self.addresses = tuple(host(subnet, 2) for subnet in subnets())

    def __enter__(self) -> "Outside":
        ip("netns", "add", self.name)
        ip("link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        for address in self.addresses:
            prefix, nodad = ("64", ["nodad"]) if ":" in address else ("24", [])
            router = address[:-1] + "1"
            ip("address", "add", f"{router}/{prefix}", "dev", self.name, *nodad)
            ip("link", "set", self.name, "up")
            ip("address", "add", f"{address}/{prefix}", "dev", "eth0", *nodad, inside=self.inside)
            ip("link", "set", "eth0", "up", inside=self.inside)
            ip("route", "add", "default", "via", router, inside=self.inside)
        return self

    def __exit__(self, *_error: object) -> None:
        # The link would live on for a while with its namespace.
        ip("link", "delete", self.name)
        ip("netns", "delete", self.name)


def allow(words: Sequence[str], *, command: str = "--insert") -> None:
    """Let packets through Docker's firewall; ``--delete`` takes that back."""
    chain = [command, "DOCKER-USER", *words, "-j", "ACCEPT"]
    subprocess.run(["iptables", "--wait", *chain], check=True)


needs_root = os.geteuid() != 0
