# SPDX-License-Identifier: Apache-2.0
"""Containers plugged into a bridge of Open vSwitch.

Run them by ``tools/run-tests.sh guest``: where there is no Open vSwitch it boots a guest. There is
no engine in it: the network namespaces here are made and named as Docker makes and names them.
"""

import contextlib
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from functional import segments

from container_stack import exceptions
from container_stack.host import plug
from container_stack.rootwrap import executor
from container_stack.testing import privilege

CONTROL = Path("/usr/share/openvswitch/scripts/ovs-ctl")
SANDBOXES = Path("/run/docker/netns")

# In a guest, which is there for it, a missing Open vSwitch is a failure.
pytestmark = pytest.mark.skipif(
    not CONTROL.exists() and "UML_GUEST" not in os.environ,
    reason="no Open vSwitch on this machine: run tools/run-tests.sh guest",
)


def vsctl(*words: str) -> str:
    argv = ["ovs-vsctl", "--timeout=10", *words]
    done = subprocess.run(argv, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture(scope="session")
def switch() -> Iterator[None]:
    """Open vSwitch; one that runs already is used."""
    with contextlib.suppress(subprocess.CalledProcessError):
        vsctl("show")
        yield
        return
    # OVS 3.1 counts the CPUs every 10 s from the kernel's start on: before that it finds none, and
    # nobody serves the first packets.
    time.sleep(max(0.0, 11.0 - time.monotonic()))
    subprocess.run([CONTROL, "start", "--system-id=random"], check=True, capture_output=True)
    yield
    subprocess.run([CONTROL, "stop"], check=True, capture_output=True)


@pytest.fixture
def bridge(switch: None) -> Iterator[str]:
    name = f"cst{uuid.uuid4().hex[:8]}"
    vsctl("add-br", name)
    yield name
    vsctl("del-br", name)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[executor.Executor]:
    run = privilege.make_executor(tmp_path / "state")
    yield run
    run.close()


@pytest.fixture
def plugs(run: executor.Executor) -> plug.Plugs:
    return plug.Plugs(run)


class Sandbox:
    """A network namespace that lives as a container's does."""

    def __init__(self) -> None:
        self._path: Path | None = None

    @property
    def path(self) -> str:
        return str(self._path)

    def start(self) -> str:
        SANDBOXES.mkdir(parents=True, exist_ok=True)
        self._path = SANDBOXES / uuid.uuid4().hex[:12]
        self._path.touch()
        subprocess.run(["unshare", f"--net={self._path}", "true"], check=True)
        return self.path

    def stop(self) -> None:
        if self._path is not None:
            subprocess.run(["umount", self._path], check=True)
            self._path.unlink()
            self._path = None


@pytest.fixture
def start() -> Iterator[Callable[[], Sandbox]]:
    started: list[Sandbox] = []

    def start() -> Sandbox:
        started.append(Sandbox())
        started[-1].start()
        return started[-1]

    yield start
    for each in started:
        each.stop()


def make_plug(bridge: str, nets: tuple[str, str], number: int) -> plug.Plug:
    return plug.Plug(
        id=str(uuid.uuid4()),
        bridge=bridge,
        mac=f"02:00:00:00:01:{number:02x}",
        addresses=(f"{segments.host(nets[0], number)}/24", f"{segments.host(nets[1], number)}/64"),
        mtu=1442,
        ovs=True,
    )


def soon_reaches(address: str, inside: str) -> bool:
    deadline = time.monotonic() + 10
    while not segments.reaches(address, inside=inside):
        if time.monotonic() > deadline:
            return False
    return True


def external_ids(one: plug.Plug) -> str:
    return vsctl("get", "Interface", plug.host_interface(one.id), "external_ids")


def gone(one: plug.Plug) -> bool:
    name = plug.host_interface(one.id)
    return name not in vsctl("list-ports", one.bridge) and name not in os.listdir("/sys/class/net")


def test_open_vswitch_is_there(switch):
    assert shutil.which("ovs-vsctl")
    assert vsctl("show")


def test_two_containers_on_one_bridge_reach_each_other(bridge, plugs, start):
    nets = segments.subnets()
    here, there = make_plug(bridge, nets, 5), make_plug(bridge, nets, 6)
    first, second = start(), start()
    plugs.plug(here, first.path)
    plugs.plug(there, second.path)
    for number in (0, 1):
        assert soon_reaches(there.addresses[number].partition("/")[0], first.path)
    assert "mtu 1442" in segments.ip("link", "show", "dev", "eth1", inside=first.path)
    plugs.unplug(here.id, ovs=True)
    plugs.unplug(there.id, ovs=True)
    assert gone(here)
    assert gone(there)


def test_the_port_tells_the_controller_who_it_is(bridge, plugs, start):
    wanted = make_plug(bridge, segments.subnets(), 5)
    plugs.plug(wanted, start().path)
    told = external_ids(wanted)
    assert f'iface-id="{wanted.id}"' in told
    assert f'attached-mac="{wanted.mac}"' in told
    assert "iface-status=active" in told
    assert vsctl("iface-to-br", plug.host_interface(wanted.id)) == bridge
    plugs.unplug(wanted.id, ovs=True)


def test_plugged_again_after_a_restart_it_is_reached_again(bridge, plugs, start):
    nets = segments.subnets()
    here, there = make_plug(bridge, nets, 5), make_plug(bridge, nets, 6)
    first, second = start(), start()
    plugs.plug(here, first.path)
    plugs.plug(there, second.path)
    address = here.addresses[0].partition("/")[0]
    assert soon_reaches(address, second.path)
    first.stop()
    assert not segments.reaches(address, inside=second.path)
    assert plug.host_interface(here.id) in vsctl("list-ports", bridge), "the switch's row stays"
    plugs.plug(here, first.start())
    assert soon_reaches(address, second.path)
    for each in (here, there):
        plugs.unplug(each.id, ovs=True)


def test_a_repeated_plug_changes_nothing(bridge, plugs, start):
    wanted, inside = make_plug(bridge, segments.subnets(), 5), start().path
    index = Path(f"/sys/class/net/{plug.host_interface(wanted.id)}/ifindex")
    plugs.plug(wanted, inside)
    before = index.read_text()
    plugs.plug(wanted, inside)
    assert index.read_text() == before
    plugs.unplug(wanted.id, ovs=True)


def test_unplug_is_repeatable_with_the_container_gone_too(bridge, plugs, start):
    wanted, sandbox = make_plug(bridge, segments.subnets(), 5), start()
    plugs.unplug(wanted.id, ovs=True)
    plugs.plug(wanted, sandbox.path)
    sandbox.stop()
    plugs.unplug(wanted.id, ovs=True)
    plugs.unplug(wanted.id, ovs=True)
    assert gone(wanted)


def test_a_switch_that_refuses_leaves_no_link(bridge, start, tmp_path):
    run = privilege.make_executor(tmp_path / "broken", drivers=["manila"])
    filters = tmp_path / "broken.rootwrap" / "rootwrap.d" / "manila.filters"
    lines = filters.read_text().splitlines()
    filters.write_text("\n".join(line for line in lines if not line.startswith("plug_ovs:")))
    wanted, inside = make_plug(bridge, segments.subnets(), 5), start().path
    with pytest.raises(exceptions.RootHelperUnavailable, match="plug_ovs"):
        plug.Plugs(run).plug(wanted, inside)
    run.close()
    assert gone(wanted)
    assert "eth1" not in segments.ip("link", inside=inside)


def test_a_missing_bridge_is_not_found(plugs, start, switch):
    with pytest.raises(exceptions.NotFound, match="Open vSwitch bridge 'br-none'"):
        plugs.plug(make_plug("br-none", segments.subnets(), 5), start().path)


def test_median_time_of_a_plug(bridge, plugs, start, record_property):
    wanted, inside, times = make_plug(bridge, segments.subnets(), 5), start().path, []
    for _ in range(9):
        began = time.monotonic()
        plugs.plug(wanted, inside)
        times.append(time.monotonic() - began)
        plugs.unplug(wanted.id, ovs=True)
    record_property("median", sorted(times)[4])
    print(f"median {1000 * sorted(times)[4]:.0f} ms")
