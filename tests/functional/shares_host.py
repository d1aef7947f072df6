# SPDX-License-Identifier: Apache-2.0
"""A share service in a directory of its own, and all that it has on this host."""

import contextlib
import os
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_stack.host import containers
from container_stack.rootwrap import executor
from container_stack.shares import assembly, model, service
from container_stack.testing import privilege

from . import share_server, told_limits

GIB = 1024**3
#: The smallest xfs.
SMALL = 300 * 1024**2


class Host:
    """Where share services of one owner work.

    :param net: the first three bytes of a /24 that nobody uses.
    """

    def __init__(self, directory: Path, image: str, net: str, storage: str = "loop") -> None:
        self.owner = f"cstest-{uuid.uuid4().hex[:8]}"
        self.net = net
        self.state_dir = directory / "state"
        self.settings = assembly.Settings(
            owner=self.owner, state_dir=str(self.state_dir), image=image, storage=storage
        )
        self._executors: list[executor.Executor] = []

    def new_executor(self) -> executor.Executor:
        """Return an executor that this host closes."""
        self._executors.append(privilege.make_executor(self.state_dir))
        return self._executors[-1]

    def started(self) -> service.ShareService:
        """Return a service as after its start."""
        made = self.service()
        made.recover()
        return made

    def service(
        self, engine: containers.Engine | None = None, run: executor.Executor | None = None
    ) -> service.ShareService:
        """Return a service as after a start of its process, before recovery."""
        return assembly.assemble(
            self.settings, engine or containers.Engine(), run or self.new_executor()
        )

    def spec(self, number: int = 10) -> model.ServerSpec:
        """Return a share server whose address ends in this number."""
        subnet = model.Subnet(f"cstest-{self.net}", f"{self.net}.0/24", gateway=f"{self.net}.1")
        return model.ServerSpec(f"{self.owner}-{number}", subnet, f"{self.net}.{number}")

    def things(self) -> dict[str, int]:
        """Count what is on the host: by the engine, the kernel and the directory itself."""
        engine = containers.Engine()
        labels = {"container_stack.owner": self.owner}
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        prefix = f"{self.state_dir}/mounts/"
        return {
            "containers": len(engine.list(labels)),
            "networks": len(engine.list_networks(labels)),
            "volumes": len(engine.list_volumes(labels)),
            "mounts": sum(line.split()[4].startswith(prefix) for line in mounts),
            "loop devices": len(self.loop_devices()),
            "files": sum(len(_lasting(files)) for _, _, files in os.walk(self.state_dir)),
            "directories": len(list((self.state_dir / "mounts" / "shares").glob("*"))),
            "mount points": len(list((self.state_dir / "mounts" / "shares").glob("*/*"))),
        }

    def loop_devices(self) -> list[str]:
        """Return the loop devices over files of this directory."""
        found = []
        for path in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                if path.read_text().startswith(str(self.state_dir)):
                    found.append(f"/dev/{path.parts[3]}")
        return found

    def power_off(self) -> None:
        """Do to the host what a reboot does: no process, mount, limit or loop device remains."""
        engine = containers.Engine()
        for each in engine.list({"container_stack.owner": self.owner}):
            engine.stop(each.id, timeout=0)
        for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
            path = line.split()[4]
            if path.startswith(f"{self.state_dir}/mounts"):
                subprocess.run(["umount", path], check=True)
        for device in self.loop_devices():
            told_limits.forget(device)
            subprocess.run(["losetup", "--detach", device], check=True)

    def close(self) -> None:
        """Take everything away, whatever state it is in."""
        engine = containers.Engine()
        labels = {"container_stack.owner": self.owner}
        for each in engine.list(labels):
            engine.remove(each.id)
        for volume in engine.list_volumes(labels):
            engine.remove_volume(volume.name)
        for network in engine.list_networks(labels):
            engine.remove_network(network.name)
        self.power_off()
        for run in self._executors:
            run.close()


def _lasting(files: list[str]) -> list[str]:
    """Return them without what a killed writer of a record left, which the next one takes."""
    records = set(files)
    return [each for each in files if each.removesuffix(".new") == each or each[:-4] not in records]


def nothing() -> dict[str, int]:
    """Return the counts of a host on which nothing is left."""
    kinds = ["containers", "networks", "volumes", "mounts", "loop devices", "files"]
    return dict.fromkeys([*kinds, "directories", "mount points"], 0)


@pytest.fixture
def host(tmp_path: Path, samba_image: str) -> Iterator[Host]:
    """A host with nothing on it; what a test leaves is taken away."""
    net = f"10.251.{100 + os.getpid() % 100}"
    with contextlib.closing(Host(tmp_path, samba_image, net)) as made:
        yield made


samba_image = share_server.samba_image


@pytest.fixture
def shares(host: Host) -> service.ShareService:
    """The service of a host."""
    return host.started()


@pytest.fixture(scope="module")
def lasting_host(tmp_path_factory: pytest.TempPathFactory, samba_image: str) -> Iterator[Host]:
    """A host for all tests of a module, which call it ``host``."""
    directory, net = tmp_path_factory.mktemp("shares"), f"10.252.{100 + os.getpid() % 100}"
    with contextlib.closing(Host(directory, samba_image, net)) as made:
        yield made


@pytest.fixture(scope="module")
def lasting_shares(host: Host) -> service.ShareService:
    """Its service."""
    return host.started()


@pytest.fixture(scope="module")
def lasting_server(host: Host, shares: service.ShareService) -> model.Server:
    """A share server on it."""
    return shares.create_server(host.spec())
