# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of servers stand on: a service in a directory of its own, and the floor."""

import contextlib
import dataclasses
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

from container_stack.host import containers, images
from container_stack.servers import assembly, model, spec
from container_stack.testing import privilege

# As the tests' own modules name each other.
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from functional import busybox

SUBNET = containers.Subnet("10.251.92.0/24")
_SLEEP = ("sleep", "3600")


@dataclasses.dataclass(frozen=True, slots=True)
class Bench:
    """A service of servers, and an engine's network for the floor.

    :param network: of Neutron, on which the service's servers are.
    """

    service: assembly.Service
    image_id: str
    owner: str
    network: str

    def plan(self, *, port: bool = False) -> model.Plan:
        """Return a server, on the network or without one."""
        server_id = str(uuid.uuid4())
        return model.Plan(
            server_id,
            f"cstest-{server_id[:8]}",
            "bench",
            limits=model.Limits(memory=64 * 1024**2, cpus=1.0),
            wish=model.Wish(command=_SLEEP),
            ports=(self._port(),) if port else (),
        )

    def _port(self) -> model.Port:
        port_id = uuid.uuid4()
        return model.Port(
            str(port_id),
            self.network,
            model.Binding.TAP,
            mac=f"02:{port_id.bytes[:5].hex(':')}",
            addresses=(f"10.251.93.{port_id.bytes[5] % 250 + 2}/24",),
            gateways=("10.251.93.1",),
        )

    def plain(self, number: int) -> None:
        """Create and start the same container by bare calls, on the engine's own network."""
        plan = self.plan()
        wanted = spec.container_spec(
            plan,
            self.image_id,
            self.service.disks.connect(plan.id, ()),
            spec.Defaults(),
            owner=self.owner,
        )
        name = f"{self.owner}-{number}"
        labels = {"container_stack.test": "1", "bench": self.owner}
        self.service.engine.start(
            self.service.engine.create(
                dataclasses.replace(wanted, name=name, labels=labels, network=self.owner)
            )
        )

    def clear(self) -> None:
        """Remove every server and plain container."""
        engine = self.service.engine
        with futures.ThreadPoolExecutor(8) as pool:
            list(
                pool.map(self.service.servers.destroy, [e.id for e in self.service.servers.list()])
            )
            list(pool.map(engine.remove, [e.id for e in engine.list({"bench": self.owner})]))


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Lend a service; everything that it made is gone afterwards."""
    engine = containers.Engine()
    owner = f"cstest-{uuid.uuid4().hex[:8]}"
    with contextlib.ExitStack() as undo:
        state_dir = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="cstest-")), "state")
        run = undo.enter_context(contextlib.closing(privilege.make_executor(state_dir)))
        engine_images = images.Images(engine)
        undo.callback(engine_images.remove, f"{owner}:bench")
        image_id = busybox.import_image(engine_images, f"{owner}:bench").id
        undo.callback(engine.remove_network, owner)
        engine.create_network(owner, [SUBNET], labels={"container_stack.test": "1"})
        settings = assembly.Settings(owner=owner, state_dir=str(state_dir))
        service = assembly.assemble(settings, engine, run)
        service.start()
        made = Bench(service, image_id, owner, str(uuid.uuid4()))
        unmount = ["umount", "-q", str(state_dir / "mounts")]
        undo.callback(subprocess.run, unmount, check=False, capture_output=True)
        undo.callback(made.clear)
        yield made
