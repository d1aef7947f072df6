# SPDX-License-Identifier: Apache-2.0
"""Ports of Neutron's for servers, the host's network as tests see it, and Open vSwitch."""

import contextlib
import dataclasses
import itertools
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from container_stack.host import bridges
from container_stack.servers import model

from .. import segments

LINKS = Path("/sys/class/net")
SOCKET = Path("/run/openvswitch/db.sock")
SCHEMA = Path("/usr/share/openvswitch/vswitch.ovsschema")

#: Sends from an address that need not be one's own: its MAC, its own IP or another's.
SPEAK = """
import socket, sys
device, mac, source, destination, text = sys.argv[1:]
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
    raw.bind((device, 0))
    payload = text.encode()
    udp = (9).to_bytes(2, "big") * 2 + (8 + len(payload)).to_bytes(2, "big") + bytes(2) + payload
    head = bytes.fromhex("4500") + (20 + len(udp)).to_bytes(2, "big") + bytes(4)
    head += bytes([64, 17]) + bytes(2) + socket.inet_aton(source) + socket.inet_aton(destination)
    total = sum(int.from_bytes(head[i : i + 2], "big") for i in range(0, 20, 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + (~total & 0xFFFF).to_bytes(2, "big") + head[12:]
    octets = bytes.fromhex(mac.replace(":", ""))
    raw.send(b"\\xff" * 6 + octets + b"\\x08\\x00" + head + udp)
"""
#: Prints what it hears on port 9 until nothing has come for a while.
HEAR = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800)) as raw:
    raw.bind((sys.argv[1], 0))
    print("ready", flush=True)
    while b"END" not in (frame := raw.recv(2000)):
        if frame[36:38] == b"\\x00\\x09":
            print(frame[42:].decode(), flush=True)
"""
#: Accepts one connection and sends it a lot.
SEND = """
import socket
with socket.create_server(("0.0.0.0", 7777)) as server:
    print("ready", flush=True)
    server.accept()[0].sendall(bytes(1 << 20))
"""
RECEIVE = """
import socket, sys
with socket.create_connection((sys.argv[1], 7777), timeout=20) as client:
    count = 0
    while data := client.recv(1 << 16):
        count += len(data)
print(count)
"""


@dataclasses.dataclass
class Segment:
    """A network of Neutron's with its subnets; its ports are never the same twice."""

    binding: model.Binding
    bridge: str = ""

    def __post_init__(self) -> None:
        self.id = str(uuid.uuid4())
        self.subnet4, self.subnet6 = segments.subnets()
        self._numbers = itertools.count(5)

    def port(self, **values: object) -> model.Port:
        number = next(self._numbers)
        good = {
            "id": str(uuid.uuid4()),
            "network": self.id,
            "binding": self.binding,
            "mac": f"02:00:00:00:01:{number:02x}",
            "bridge": self.bridge,
            "addresses": (
                f"{segments.host(self.subnet4, number)}/24",
                f"{segments.host(self.subnet6, number)}/64",
            ),
            "mtu": 1442,
        }
        return model.Port(**{**good, **values})  # type: ignore[arg-type]

    @property
    def made_bridge(self) -> str:
        return bridges.of_network(self.id)


@contextlib.contextmanager
def admitted(bridge: str) -> Iterator[None]:
    """Let a bridge's packets through this host's firewall."""
    rule = ["-i", bridge, "-o", bridge]
    segments.allow(rule)
    yield
    segments.allow(rule, command="--delete")


def own_address() -> str:
    """Return an IPv4 address that this host has on any of its links but the loopback."""
    return (
        segments.ip("-4", "-o", "address", "show", "scope", "global").split()[3].partition("/")[0]
    )


def addresses(port: model.Port) -> list[str]:
    return [text.partition("/")[0] for text in port.addresses]


def soon_reach(port: model.Port, inside: str) -> bool:
    """Tell whether all addresses of a port are reached from a network namespace."""
    deadline = time.monotonic() + 20
    while not all(segments.reaches(each, inside=inside) for each in addresses(port)):
        if time.monotonic() > deadline:
            return False
    return True


def traces(port: model.Port) -> set[str]:
    """Return what this host has of a port: links, and chains of a filter."""
    short = port.id[:11]
    links = {each.name for each in LINKS.iterdir() if short in each.name}
    chains = subprocess.run(["ebtables", "-L"], check=True, capture_output=True, text=True)
    return links | {line for line in chains.stdout.splitlines() if short in line}


def speak(inside: str, *words: str) -> None:
    subprocess.run(["nsenter", f"--net={inside}", sys.executable, "-c", SPEAK, *words], check=True)


@contextlib.contextmanager
def started(inside: str, program: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program in a network namespace, and begin when it is ready."""
    argv = ["nsenter", f"--net={inside}", sys.executable, "-c", program, *words]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def transferred(source: str, address: str, destination: str) -> int:
    """Return how many bytes TCP brings from one network namespace to another."""
    with started(source, SEND):
        argv = ["nsenter", f"--net={destination}", sys.executable, "-c", RECEIVE, address]
        done = subprocess.run(argv, check=False, capture_output=True, text=True)
    return int(done.stdout or 0)


def vsctl(*words: str) -> str:
    argv = ["ovs-vsctl", "--timeout=20", *words]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()


def has_switch() -> bool:
    return all(shutil.which(name) for name in ("ovs-vswitchd", "ovsdb-server", "ethtool"))


@contextlib.contextmanager
def running_switch(directory: Path) -> Iterator[None]:
    """Open vSwitch in user space; one that runs already is used."""
    with contextlib.suppress(subprocess.CalledProcessError):
        vsctl("show")
        yield
        return
    SOCKET.parent.mkdir(exist_ok=True)
    database = directory / "conf.db"
    subprocess.run(["ovsdb-tool", "create", database, SCHEMA], check=True)
    with contextlib.ExitStack() as undo:
        undo.enter_context(_daemon(directory, "ovsdb-server", database, f"--remote=punix:{SOCKET}"))
        _await_socket()
        vsctl("--no-wait", "init")
        undo.enter_context(_daemon(directory, "ovs-vswitchd"))
        yield


@contextlib.contextmanager
def _daemon(directory: Path, *argv: str | Path) -> Iterator[None]:
    with (directory / f"{argv[0]}.log").open("ab") as log:
        process = subprocess.Popen([*argv], stdout=log, stderr=log, cwd=directory)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _await_socket() -> None:
    deadline = time.monotonic() + 30
    while not SOCKET.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
