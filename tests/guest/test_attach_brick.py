# SPDX-License-Identifier: Apache-2.0
"""The kernel's initiator through os-brick, against two makers' targets and the public suite.

Run them by ``tools/run-tests.sh guest``: where this kernel has no initiator it boots a guest.
"""

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from contract import tgt_world

from container_stack.host import attach, attach_brick, brick_helper
from container_stack.testing import attach_contract, attach_portals, attach_world

from . import lio_world

# They attach devices to the kernel, and run daemons of which a host has one.
pytestmark = pytest.mark.skipif(
    "UML_GUEST" not in os.environ, reason="not on this host: run tools/run-tests.sh guest"
)


class TgtWorld(tgt_world.TgtWorld):
    """tgt, whose volume is LUN 1 beside a controller."""

    # The kernel's initiator has one name; and without multipath it has one path.
    capabilities = frozenset({attach_world.CHAP, attach_world.MUTUAL_CHAP})
    multipath = False

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        options = attach.Options(initiator=initiator, timeout=timeout, multipath=self.multipath)
        return attach_brick.BrickAttacher.open(options)


class MultipathWorld(TgtWorld):
    """Both portals at once."""

    capabilities = TgtWorld.capabilities | {attach_world.PORTALS}
    multipath = True


class LioWorld(lio_world.LioWorld):
    """LIO, whose volume is LUN 0, and one portal."""

    multipath = False

    def attacher(self, *, initiator: str = "", timeout: float = 30.0) -> attach.Attacher:
        options = attach.Options(initiator=initiator, timeout=timeout, multipath=self.multipath)
        return attach_brick.BrickAttacher.open(options)


@pytest.fixture(scope="session")
def initiator() -> Iterator[None]:
    """iscsid and multipathd, as distributions configure them."""
    lio_world.run("modprobe", "dm_multipath")
    processes = [
        # It ends by signalling its process group.
        subprocess.Popen(["iscsid", "--foreground"], start_new_session=True),
        subprocess.Popen(["multipathd", "-d", "-s", "-v1"]),
    ]
    deadline = time.monotonic() + 20
    while not multipathd_answers():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield
    helper().close()
    for process in processes:
        process.terminate()
        process.wait(20)


def multipathd_answers() -> bool:
    done = subprocess.run(["multipathd", "show", "daemon"], capture_output=True, check=False)
    return not done.returncode


def helper() -> brick_helper.Helper:
    return brick_helper.shared(attach_brick.helper_command(attach.Options()))


def leftovers() -> list[str]:
    """Return what attaching makes on a host: sessions, records, devices, maps, markers."""
    places = (
        "sys/class/iscsi_session/*",
        "etc/iscsi/nodes/*",
        "dev/disk/by-path/*iscsi*",
        "sys/block/sd*",
        "sys/block/dm-*",
        "run/container-stack-brick/" + "[0-9a-f]" * 64,
    )
    return [str(path) for place in places for path in Path("/").glob(place)]


@contextlib.contextmanager
def leaving_nothing() -> Iterator[None]:
    yield
    assert leftovers() == []


class TestTgt(attach_contract.AttachContract):
    """One path, as without the option."""

    @pytest.fixture
    def world(self, initiator: None, tmp_path: Path) -> Iterator[TgtWorld]:
        with TgtWorld(tmp_path) as world, leaving_nothing():
            yield world


class TestLio(attach_contract.AttachContract):
    """One path, as without the option."""

    @pytest.fixture
    def world(self, initiator: None, tmp_path: Path) -> Iterator[LioWorld]:
        with LioWorld(tmp_path, 1) as world, leaving_nothing():
            yield world


class TestMultipath(attach_portals.PortalContract):
    """What several paths are for."""

    test_growth = attach_contract.AttachContract.test_attached_volume_grows

    @pytest.fixture
    def world(self, initiator: None, tmp_path: Path) -> Iterator[TgtWorld]:
        with MultipathWorld(tmp_path) as world, leaving_nothing():
            yield world
