# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of shares stand on: a service in a directory of its own, and the floors."""

import contextlib
import dataclasses
import os
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import smbclient

from container_stack.host import containers, images
from container_stack.rootwrap import executor
from container_stack.shares import assembly, cifs, container, image, model, service
from container_stack.testing import privilege

SIZE = 300 * 1024**2
_WORKERS = 8
ALICE = cifs.Rule("user", "alice")


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """A share service, and what it stands on."""

    shares: service.ShareService
    engine: containers.Engine
    run: executor.Executor
    settings: assembly.Settings
    subnet: model.Subnet
    rootwrap: Path

    def spec(self, number: int) -> model.ServerSpec:
        """Return a share server whose address ends in this number."""
        prefix = self.subnet.cidr.rpartition(".")[0]
        return model.ServerSpec(f"bench-{number}", self.subnet, f"{prefix}.{number}")

    def clear(self) -> None:
        """Remove every share and server."""
        with futures.ThreadPoolExecutor(_WORKERS) as pool:
            list(pool.map(self.shares.delete, [each.id for each in self.shares.list()]))
            servers = [each.id for each in self.shares.servers.list()]
            list(pool.map(self.shares.delete_server, servers))


@contextlib.contextmanager
def bench(owner: str | None = None) -> Iterator[Bench]:
    """Lend a service; everything that it made is gone afterwards.

    :param owner: of all that it makes.
    """
    engine = containers.Engine()
    if images.Images(engine).find(image.REFERENCE) is None:
        image.build(images.Images(engine))
    with tempfile.TemporaryDirectory(prefix="cstest-bench-", dir="/var/tmp") as directory:
        state_dir = Path(directory) / "state"
        run = privilege.make_executor(state_dir)
        rootwrap = Path(f"{state_dir}.rootwrap", "rootwrap.conf")
        settings = assembly.Settings(
            owner=owner or f"cstest-{uuid.uuid4().hex[:8]}", state_dir=str(state_dir)
        )
        shares = assembly.assemble(settings, engine, run)
        shares.recover()
        made = Bench(
            shares, engine, run, settings, model.Subnet("bench", "10.251.91.0/24"), rootwrap
        )
        try:
            yield made
        finally:
            made.clear()
            subprocess.run(["umount", "-q", str(state_dir / "mounts")], check=False)
            run.close()


@contextlib.contextmanager
def standing_network(made: Bench) -> Iterator[str]:
    """Lend the network of the benchmark's subnet, kept by a container that never starts."""
    made.shares.create_server(made.spec(250))
    try:
        yield f"cs-net-{made.subnet.id}"
    finally:
        made.shares.delete_server("bench-250")


def plain_container(made: Bench, network: str, number: int) -> str:
    """Create and start the same container as a share server by bare calls; return its id.

    Ready when port 445 answers: the floor of everything that makes share servers.
    """
    name = f"cstest-bench-{number}"
    directory = os.path.join(made.settings.state_dir, "mounts", "shares", name)
    os.makedirs(directory, exist_ok=True)
    spec = container.spec(
        container.Settings(image=made.settings.image),
        name=name,
        labels={"container_stack.test": "1"},
        shares_directory=directory,
        state_volume=name,
    )
    address = made.spec(number).address
    made.engine.create_volume(name)
    container_id = made.engine.create(dataclasses.replace(spec, network=network, address4=address))
    made.engine.start(container_id)
    wait_for_port(address)
    return container_id


def remove_plain(made: Bench, number: int) -> None:
    """Take a plain container away."""
    name = f"cstest-bench-{number}"
    made.engine.remove(name)
    made.engine.remove_volume(name)
    os.rmdir(os.path.join(made.settings.state_dir, "mounts", "shares", name))


def wait_for_port(address: str) -> None:
    """Return when the SMB port answers."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((address, 445), timeout=1):
            return
        time.sleep(0.005)
    raise TimeoutError(address)


def write_first(share: model.Share, password: str) -> None:
    """Log in, encrypted, and write one file."""
    host = share.export_location.split("\\")[2]
    cache: dict[str, object] = {}
    smbclient.register_session(
        host, username="alice", password=password, auth_protocol="ntlm", connection_cache=cache
    )
    path = rf"{share.export_location}\first"
    with smbclient.open_file(path, mode="wb", username="alice", connection_cache=cache) as file:
        file.write(b"first")
    smbclient.reset_connection_cache(connection_cache=cache)
